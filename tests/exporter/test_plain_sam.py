"""A plain SAM goes the same way as SAM-HQ: same command, same contract without the HQ part, official results."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from samhq_exporter.cli import main as export_main
from samhq_exporter.commands.export import print_result
from samhq_exporter.config import ExportConfig
from samhq_exporter.pipeline import export_bundle
from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle
from samhq_runtime.cli import main as samhq
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import ContractError, PromptError
from samhq_runtime.evaluation.metrics import iou
from tests.support.bundles import export
from tests.support.models import TINY, save_checkpoint, tiny_sam
from tests.support.official import import_official
from tests.support.parity import randomise
from tests.support.reference import (
    ALL_PROMPTS,
    mobile_sam,
    official_predictions,
    photographs,
    prompts_for,
)
from tests.support.shared import shared_bundle

PRECISIONS = {"fp32": (1e-3, 0.9999), "fp16": (3e-2, 0.97)}  # of the range of the logits, mask IoU


@pytest.fixture(scope="module")
def package() -> ModuleType:
    return import_official("segment_anything")


@pytest.fixture(scope="module", params=PRECISIONS)
def bundle(request: pytest.FixtureRequest, plain_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, plain_checkpoint, precision=request.param)


def assert_same(bundle: Bundle, reference: Any) -> None:
    """Logits, predicted IoU and masks of every kind of prompt; three masks where the official one returns three."""
    relative, least_iou = PRECISIONS[bundle.manifest.precision]
    with Predictor(bundle) as predictor:
        for name, image in list(photographs().items())[1:2]:
            predictor.set_image(image)
            reference.set_image(image)
            for kind, multimask in itertools.product(ALL_PROMPTS, (False, True)):
                prompts = prompts_for(image, kind, bundle.manifest.sizes.low_res_size)
                expected = official_predictions(reference, prompts, multimask_output=multimask)
                got = predictor.predict(**prompts, return_logits=True, multimask_output=multimask)
                case = f"{name}, {kind}, multimask {multimask}"
                assert len(got[0]) == (3 if multimask else 1)
                for ours, theirs in zip(got, expected, strict=True):
                    assert ours.shape == theirs.shape, case
                    assert np.abs(ours - theirs).max() <= relative * max(float(np.ptp(theirs)), 1e-2), case
                assert iou(got[0] > 0, expected[0] > 0) >= least_iou, case


def test_equals_segment_anything(bundle: Bundle, official_plain_sam: nn.Module, package: ModuleType) -> None:
    assert_same(bundle, package.SamPredictor(official_plain_sam))


def test_mobile_sam_equals_its_modules(tmp_path: Path) -> None:
    """`mobile_sam.pt` is a TinyViT with SAM's own decoder; its keys are those of this reference."""
    sam = mobile_sam()
    randomise(sam, seed=12)
    torch.save(sam.eval().state_dict(), tmp_path / "mobile_sam.pt")
    bundle = export(tmp_path / "mobile_sam.pt", tmp_path / "bundle")
    assert (bundle.manifest.variant, bundle.manifest.token_fusion) == ("vit_tiny", "none")
    assert_same(bundle, import_official("segment_anything").SamPredictor(sam))


def test_the_contract_has_no_hq_part_and_says_so(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.token_fusion, manifest.sizes.token_masks, manifest.sizes.has_hq) == ("none", 4, False)
    decoder = manifest.graphs[MASK_DECODER].spec
    names = {t.name for graph in manifest.graphs.values() for t in (*graph.spec.inputs, *graph.spec.outputs)}
    assert not {"hq_features", "hq_token"} & names
    assert next(t.shape for t in decoder.inputs if t.name == "mask_weights") == ("combinations", 4)
    assert manifest.parity["mask_iou"].keys() == {"sam_0", "sam_1", "sam_2", "sam_3", "selected"}
    assert manifest.parity["tensors"].keys() == {"image_embeddings", "low_res_logits", "iou_predictions"}
    assert not any("/token_fusion/" in p["fp32_islands"] for p in manifest.precision_policy.values())


WISHES: dict[str, Callable[[Bundle], object]] = {
    "hq_token_only": lambda bundle: predict(bundle, hq_token_only=True),
    "hq_token": lambda bundle: Predictor(bundle, hq_token=np.zeros((1, TINY.embed_dim), np.float32)),
}


def predict(bundle: Bundle, **options: bool) -> object:
    with Predictor(bundle) as predictor:
        predictor.set_image(np.zeros((20, 30, 3), np.uint8))
        return predictor.predict(box=[2, 2, 20, 15], **options)


@pytest.mark.parametrize("wish", WISHES)
def test_wishes_about_the_hq_token_are_refused(bundle: Bundle, wish: str) -> None:
    with pytest.raises(PromptError, match=f"{wish}: the bundle is of a plain SAM without HQ part"):
        WISHES[wish](bundle)


def test_feeds_with_an_hq_part_are_refused(bundle: Bundle) -> None:
    sizes = bundle.manifest.sizes
    features = {"hq_features": np.zeros((1, 8, sizes.low_res_size, sizes.low_res_size), np.float32)}
    with bundle.open(MASK_DECODER) as decode, pytest.raises(ContractError, match=r"unknown \['hq_features'\]"):
        decode(features)
    with bundle.open(IMAGE_ENCODER) as encode:
        assert encode({"input_image": np.zeros((1, 3, 128, 128), np.float32)}).keys() == {"image_embeddings"}


def test_batched_boxes(bundle: Bundle) -> None:
    boxes = [[1, 1, 20, 15], [5, 5, 25, 18]]
    with Predictor(bundle) as predictor:
        predictor.set_image(np.zeros((20, 30, 3), np.uint8))
        masks, iou, low_res = predictor.predict(box=boxes)
    assert (masks.shape, iou.shape, low_res.shape[:2]) == ((2, 3, 20, 30), (2, 3), (2, 3))


def test_commands(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(photographs()["portrait 300 x 200"]).save(tmp_path / "photo.png")
    predict = ["predict", str(bundle.path), str(tmp_path / "photo.png"), "--output", str(tmp_path / "mask.png")]
    assert samhq([*predict, "--box", "20,20,150,200", "--multimask"]) == 0
    assert np.asarray(Image.open(tmp_path / "mask.png")).shape == (300, 200)
    assert samhq(["inspect", str(bundle.path)]) == 0
    assert "none: plain SAM, no HQ part" in capsys.readouterr().out
    assert samhq([*predict, "--box", "20,20,150,200", "--hq-token-only"]) == 1
    assert "hq_token_only: the bundle is of a plain SAM" in capsys.readouterr().err
    beside = tmp_path / "beside.png"
    assert samhq([*predict, "--box", "20,20,150,200", "--compare-sam", str(beside)]) == 1
    assert "--compare-sam: the bundle is of a plain SAM" in capsys.readouterr().err
    assert not beside.exists()


def test_in_memory(
    official_plain_sam: nn.Module, plain_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = export_bundle(ExportConfig(output=tmp_path / "bundle"), model=official_plain_sam)
    assert result.manifest.checkpoint["file"] == "Sam object"
    for file in ("image_encoder.onnx", "mask_decoder.onnx"):
        assert (result.path / file).read_bytes() == (plain_bundle.path / file).read_bytes()
    print_result(result)
    assert "custom, fp32, no HQ part: plain SAM; against PyTorch:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--token-fusion", "hadamard"], "without the HQ part, which has no HQ token for token fusion hadamard"),
        (["--hq-token", "TOKEN"], "a plain SAM without HQ part; expected SAM-HQ weights"),
        (["--variant", "vit_b"], "holds a custom model, --variant asked for vit_b"),
    ],
)
def test_options_that_need_an_hq_part(
    plain_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    np.save(tmp_path / "token.npy", np.zeros((1, TINY.embed_dim), np.float32))
    options = [str(tmp_path / "token.npy") if option == "TOKEN" else option for option in options]
    assert export_main(["--checkpoint", str(plain_checkpoint), "--output", str(tmp_path / "bundle"), *options]) == 1
    err = capsys.readouterr().err
    assert complaint in err
    assert "Traceback" not in err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "part", ["hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature"]
)
def test_some_of_the_hq_part_is_damage_and_not_a_plain_sam(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    path = save_checkpoint(tiny_sam(), tmp_path / "m.pth")
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if not k.startswith(f"mask_decoder.{part}.")}, path)
    assert export_main(["--checkpoint", str(path), "--output", str(tmp_path / "bundle")]) == 1
    assert "m.pth: tensors missing [" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()
