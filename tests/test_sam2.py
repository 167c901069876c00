"""SAM 2.1 and HQ-SAM 2 from a checkpoint file to masks, against what the official code computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from safetensors.numpy import save_file

from samhq_exporter.passes import check_rules
from samhq_exporter.precision.typed import traced
from samhq_exporter.tracing.modules import graphs_of
from samhq_exporter.training.config import TrainHqConfig
from samhq_exporter.training.run import train_hq
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_exporter.weights.tuned_token import with_hq_token
from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import Array
from samhq_runtime.errors import CheckpointError, ConfigError
from samhq_runtime.everything.generator import MaskGenerator
from samhq_runtime.frames.geometry import preprocess
from samhq_runtime.predictor import Predictor
from tests.support.models import seeded_checkpoint
from tests.support.sam2_golden import FEATURES, OPTIONS, Golden, cases, disc, golden_checkpoint, images
from tests.support.shared import shared_bundle

MODELS = ("sam2", "hq_sam2", pytest.param("hq_sam2_large", marks=pytest.mark.released))
RELATIVE, IOU, PIXELS = 1e-5, 1e-5, 3  # of a tensor's range; absolute; of a mask


@pytest.fixture(scope="session", params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def bundle(model: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, golden_checkpoint(tmp_path_factory, model))


def close(golden: Golden, name: str, got: Array, *, range_of: float | None = None) -> None:
    want, ours = golden.pair(name, got)
    np.testing.assert_allclose(ours, want, rtol=0, atol=range_of or RELATIVE * np.ptp(want), err_msg=name)


def test_features_and_pixels(model: str, bundle: Bundle) -> None:
    golden, manifest = Golden(model), bundle.manifest
    with Predictor(bundle, threads=1) as predictor:
        for name, image in images().items():
            pixels = preprocess(image, manifest.sizes.frame, manifest.pixel_mean, manifest.pixel_std)
            close(golden, f"{name}/input_image", pixels)
            features = predictor.encode(image).features
            for ours, theirs in FEATURES.items():
                close(golden, f"{name}/{theirs}", np.asarray(features[ours]))


@pytest.mark.parametrize("image", ["coffee", "cat"])
def test_predictions(model: str, bundle: Bundle, image: str) -> None:
    golden, pixels = Golden(model), images()[image]
    earlier: dict[str, Array] = {"disc": disc(bundle.manifest.sizes.low_res_size)}
    with Predictor(bundle, threads=1) as predictor:
        predictor.set_image(pixels)
        for case, arguments in cases(pixels).items():
            given: dict[str, Any] = dict(arguments)
            if "mask_input" in given:
                given["mask_input"] = earlier[given["mask_input"]]
            for options in OPTIONS:
                if bundle.manifest.sizes.has_hq or not options.startswith("hq"):
                    masks, iou, logits = predictor.predict(**given, **OPTIONS[options])
                    if options == "single":
                        earlier[case] = logits
                    compare(golden, f"{image}/{case}/{options}", masks, iou, logits)


def test_everything_is_every_candidate_of_the_grid(bundle: Bundle) -> None:
    """The predictor's masks, the better first; no official generator is at hand to compare with."""
    image, every = images()["cat"], {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}
    with Predictor(bundle, threads=1) as predictor:
        records = MaskGenerator(predictor, 2, **every).generate(image)
        points = [record["point_coords"] for record in records]
        grid = [
            [[x, y]]
            for y in np.multiply([0.25, 0.75], image.shape[0])
            for x in np.multiply([0.25, 0.75], image.shape[1])
        ]
        assert all(points.count(point) == 3 for point in grid)
        masks, iou, _ = predictor.predict_batch(grid, [[1]] * 4, image=predictor.encode(image))
    order = np.argsort(-iou.ravel(), kind="stable")
    for record, index in zip(records, order, strict=True):
        assert (record["segmentation"] != masks.reshape(-1, *masks.shape[2:])[index]).sum() <= PIXELS
        assert record["predicted_iou"] == pytest.approx(iou.ravel()[index], abs=IOU)


def compare(golden: Golden, name: str, masks: Array, iou: Array, logits: Array) -> None:
    known = {key.rpartition("/")[2].rstrip("@#") for key in golden.arrays if key.startswith(f"{name}/")}
    if "low_res_logits" in known:
        close(golden, f"{name}/low_res_logits", logits)
    if "iou_predictions" in known:
        if name.endswith("hq_multi"):  # upstream returns the three of SAM's masks with the one HQ mask
            want = golden.arrays[f"{name}/iou_predictions"].max(axis=-1, keepdims=True)
            np.testing.assert_allclose(iou, want, rtol=0, atol=IOU)
        else:
            close(golden, f"{name}/iou_predictions", iou, range_of=IOU)
    if "masks" in known:
        assert (masks != golden.masks(f"{name}/masks")).sum() <= PIXELS, name


def test_embeddings_as_files(model: str, bundle: Bundle, tmp_path: Path) -> None:
    """All of the encoder's outputs, those of high resolution too."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with Predictor(bundle, threads=1) as predictor:
        predictor.set_image(pixels)
        predictor.save_embedding(tmp_path / "image.safetensors")
        expected, got = (
            predictor.predict(box=[5, 6, 40, 40], return_logits=True, image=image)[0]
            for image in (None, predictor.load_embedding(tmp_path / "image.safetensors"))
        )
    np.testing.assert_array_equal(got, expected)


def test_another_hq_token_changes_the_masks(sam2_checkpoints: dict[str, Path], tmp_path_factory: Any) -> None:
    bundle = shared_bundle(tmp_path_factory, sam2_checkpoints["hq_sam2"])
    image, token = images()["cat"], np.full((1, bundle.manifest.sizes.embed_dim), 0.5, np.float32)
    results = []
    for hq_token in (None, token):
        with Predictor(bundle, threads=1, hq_token=hq_token) as predictor:
            predictor.set_image(image)
            results.append(predictor.predict(box=[20, 40, 160, 220], return_logits=True)[0])
    assert np.abs(results[0] - results[1]).max() > 1


@pytest.mark.parametrize(("fusion", "operator"), [("sum", "Add"), ("hadamard", "Mul")])
def test_token_fusion_is_a_live_node(sam2_checkpoints: dict[str, Path], fusion: str, operator: str) -> None:
    sam = load_checkpoint(sam2_checkpoints["hq_sam2"], token_fusion=fusion).sam
    decoder = traced(graphs_of(sam)[1])
    check_rules(decoder, token_fusion=fusion)
    assert [node.op_type for node in decoder.graph if (node.name or "").startswith("/token_fusion/")] == [operator]


def test_positions_are_a_constant(bundle: Bundle) -> None:
    """Neither enlarged nor repeated in the graph."""
    operators = {node.op_type for node in ir.load(bundle.path / "image_encoder.onnx").graph}
    assert not operators & {"Resize", "Tile", "Mod"}


def test_tensors_for_videos_are_named(sam2_checkpoints: dict[str, Path]) -> None:
    checkpoint = load_checkpoint(sam2_checkpoints["sam2"])
    assert checkpoint.variant == "hiera_demo"
    assert checkpoint.notice.startswith("sam2.pt: 160 tensors are for videos alone and left out, such as ")


def state_of(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return state


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("no_obj_embed_spatial", "holds SAM 2, not SAM 2.1"),
        ("image_encoder.", "parts of SAM 2 without its image encoder"),
        ("sam_mask_decoder.hf_mlp.", r"tensors missing \[mask_decoder.hq_mlp"),
        ("no_mem_embed", r"tensors missing \[image_encoder.neck.no_mem_embed\]"),
    ],
)
def test_incomplete_weights(sam2_checkpoints: dict[str, Path], tmp_path: Path, left_out: str, message: str) -> None:
    state = state_of(sam2_checkpoints["hq_sam2"])
    torch.save({name: value for name, value in state.items() if not name.startswith(left_out)}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "m.pt")


@pytest.mark.parametrize("name", ["sam2.1_hq_hiera_large.pt", "sam_hq_vit_l.pth"])
def test_an_hq_model_without_its_hq_part(sam2_checkpoints: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Which is a plain SAM but for its name."""
    state = state_of(sam2_checkpoints["hq_sam2"])
    hq_part = ("hf_token", "hf_mlp", "embedding_maskfeature")
    plain = {name: value for name, value in state.items() if not any(part in name for part in hq_part)}
    torch.save(plain, tmp_path / name)
    with pytest.raises(CheckpointError, match=f"{name}: named as SAM-HQ, but none of the"):
        load_checkpoint(tmp_path / name)
    assert load_checkpoint((tmp_path / name).rename(tmp_path / "sam2.1_hiera_large.pt")).token_fusion == "none"


def test_a_token_of_sam_hq(sam2_checkpoints: dict[str, Path], hq_sam2_bundle: Bundle, tmp_path: Path) -> None:
    """Of a length that fits; at run time and at export."""
    token = {"mask_decoder.hf_token.weight": np.zeros((1, hq_sam2_bundle.manifest.sizes.embed_dim), np.float32)}
    save_file(token, tmp_path / "token.safetensors")
    message = r"of another family of models \(mask_decoder.hf_token.weight\), expected one trained for sam2"
    with pytest.raises(CheckpointError, match=message):
        Predictor(hq_sam2_bundle, hq_token=tmp_path / "token.safetensors")
    with pytest.raises(CheckpointError, match=message):
        with_hq_token(load_checkpoint(sam2_checkpoints["hq_sam2"]), tmp_path / "token.safetensors")


def test_training_is_of_sam_hq(sam2_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    config = TrainHqConfig(checkpoint=sam2_checkpoints["sam2"], dataset=tmp_path, output=tmp_path / "t.safetensors")
    with pytest.raises(ConfigError, match=r"sam2\.pt: a SAM 2, whose HQ part is not trained here"):
        train_hq(config, report=print, note=print)


def test_seeded_weights_have_official_names(sam2_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Those that benchmarks export in the released sizes."""
    state, names = state_of(seeded_checkpoint("hiera_demo", tmp_path)), set(state_of(sam2_checkpoints["hq_sam2"]))
    assert set(state) < names
    assert load_checkpoint(tmp_path / "sam_hq_hiera_demo.pth").token_fusion == "independent"


def test_input_sizes(sam2_checkpoints: dict[str, Path]) -> None:
    sam = load_checkpoint(sam2_checkpoints["sam2"], image_size=96).sam
    features = sam.encode_image(torch.zeros(1, 3, 96, 96))
    assert [tuple(tensor.shape) for tensor in features] == [(1, 64, 6, 6), (1, 8, 24, 24), (1, 16, 12, 12)]
    with pytest.raises(ConfigError, match="expected a multiple of 32 for this model"):
        load_checkpoint(sam2_checkpoints["sam2"], image_size=112)
