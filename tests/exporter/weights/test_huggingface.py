"""Hugging Face weights read without transformers, against the transformers model itself."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from samhq_exporter.model import Sam
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_exporter.weights.huggingface import is_huggingface, read_huggingface, to_official_names, weight_files
from samhq_exporter.weights.huggingface_config import FIXED, HQ_SIZES, SIZES
from samhq_runtime import Predictor
from samhq_runtime.errors import CheckpointError
from samhq_runtime.evaluation.metrics import iou
from tests.support.bundles import export
from tests.support.official import declare_torchvision_operators, import_official
from tests.support.parity import MASK_IOU, TOLERANCE, assert_close
from tests.support.reference import ALL_PROMPTS, photographs, prompts_for
from tests.support.transformers_reference import TransformersPredictor, sam_hq_of, sam_of

TINY = {
    "vision_config": {
        "hidden_size": 48,
        "output_channels": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 128,
        "patch_size": 16,
        "window_size": 5,
        "global_attn_indexes": [1, 3],
        "num_pos_feats": 32,
        "mlp_dim": 80,
    },
    "prompt_encoder_config": {"hidden_size": 64, "image_size": 128, "patch_size": 16, "mask_input_channels": 8},
    "mask_decoder_config": {"hidden_size": 64, "mlp_dim": 96, "iou_head_hidden_dim": 40, "vit_dim": 48},
}
DEFAULT: dict[str, dict[str, Any]] = {"vision_config": {}, "prompt_encoder_config": {}, "mask_decoder_config": {}}
VIT_B_OF_256 = DEFAULT | {"vision_config": {"image_size": 256}, "prompt_encoder_config": {"image_size": 256}}
PROMPTS = 3


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    declare_torchvision_operators()
    module = pytest.importorskip("transformers", reason="transformers, the reference of this test, is not installed")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return module


@pytest.fixture(scope="module")
def tiny(transformers: ModuleType) -> nn.Module:
    return sam_hq_of(transformers, TINY)


@pytest.fixture
def folder(tiny: nn.Module, tmp_path: Path) -> Path:
    tiny.save_pretrained(tmp_path)
    return tmp_path


def load(path: Path) -> Sam:
    return load_checkpoint(path).sam_hq


def prompts(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B,2,2), labels (B,2) and a mask prompt (1,1,4G,4G) of seeded noise."""
    generator = torch.Generator().manual_seed(5)
    points = torch.rand(PROMPTS, 2, 2, generator=generator) * side
    return points, torch.tensor([[1, 0], [1, 1], [0, 1]]), torch.randn(1, 1, side // 4, side // 4, generator=generator)


def decode(sam: Sam, embeddings: Tensor, hq_features: Tensor, *, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """All five token masks (B,5,4G,4G) and `iou_predictions` (B,4); transformers pads points as the runtime does."""
    points, labels, _ = prompts(sam.arch.image_size)
    padded = torch.cat([points, torch.zeros(PROMPTS, 1, 2)], dim=1)
    return sam.decode_masks(
        embeddings,
        hq_features,
        padded,
        torch.cat([labels, -torch.ones(PROMPTS, 1)], dim=1),
        torch.zeros(1, 1, *hq_features.shape[2:]) if mask is None else mask,
        torch.tensor([0.0 if mask is None else 1.0]),
        torch.zeros(PROMPTS, dtype=torch.long),
        torch.eye(5),
    )


def their_hq_features(decoder: nn.Module, embeddings: Tensor, early: Tensor) -> Tensor:
    act = nn.functional.gelu
    x = decoder.encoder_conv2(act(decoder.encoder_norm(decoder.encoder_conv1(embeddings))))
    early = early.permute(0, 3, 1, 2)
    return x + decoder.compress_vit_conv2(act(decoder.compress_vit_norm(decoder.compress_vit_conv1(early))))


def assert_same_model(theirs: nn.Module, sam: Sam) -> None:
    side = sam.arch.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(6))
    embeddings, intermediate = theirs.get_image_embeddings(pixels)
    image_embeddings, hq_features = sam.encode_image(pixels)
    assert_close(image_embeddings, embeddings)
    assert_close(hq_features, their_hq_features(theirs.mask_decoder, embeddings, intermediate[0]))

    points, labels, mask = prompts(side)
    for mask_input in (None, mask):
        masks, iou = decode(sam, image_embeddings, hq_features, mask=mask_input)
        order = iou[:, 1:].argsort(dim=1, descending=True) + 1  # transformers sorts the three candidates
        rows = torch.arange(PROMPTS)[:, None]
        single, several = masks[:, :1], masks[rows, order]
        expected = {
            (False, False): (single + masks[:, 4:], iou[:, :1]),
            (False, True): (masks[:, 4:], iou[:, :1]),
            (True, False): (several + masks[:, 4:], iou[rows, order]),
        }
        for (multimask, hq_only), (our_masks, our_iou) in expected.items():
            out = theirs(
                image_embeddings=embeddings,
                intermediate_embeddings=intermediate,
                input_points=points[None],
                input_labels=labels[None],
                input_masks=mask_input,
                multimask_output=multimask,
                hq_token_only=hq_only,
            )
            assert_close(our_masks, out.pred_masks[0])
            torch.testing.assert_close(our_iou, out.iou_scores[0], rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_tiny_sizes_in_one_file(tiny: nn.Module, folder: Path) -> None:
    assert_same_model(tiny, load(folder))
    assert is_huggingface(folder / "model.safetensors")
    one = read_huggingface(folder / "model.safetensors")
    assert all(torch.equal(value, one[key]) for key, value in read_huggingface(folder).items())


@pytest.mark.parametrize("sizes", [VIT_B_OF_256, pytest.param(DEFAULT, marks=pytest.mark.slow)], ids=["256", "1024"])
@torch.no_grad()
def test_vit_b_in_shards(transformers: ModuleType, tmp_path: Path, sizes: dict[str, dict[str, Any]]) -> None:
    theirs = sam_hq_of(transformers, sizes)
    theirs.save_pretrained(tmp_path, max_shard_size="150MB")
    assert len(weight_files(tmp_path)) > 1
    assert_same_model(theirs, load(tmp_path))


@pytest.mark.parametrize(
    ("kind", "registry"), [("SamHQ", "sam_model_registry"), ("Sam", "sam_model_registry_baseline")]
)
def test_names_and_shapes_are_the_official_ones(transformers: ModuleType, kind: str, registry: str) -> None:
    package = import_official()
    with torch.device("meta"):
        official = getattr(package, registry)["vit_b"]().state_dict()
        theirs = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")()).state_dict()
    del theirs["prompt_encoder.shared_embedding.positional_embedding"]  # tied, and never saved
    state = to_official_names(theirs, Path(kind))
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in official.items()}


@pytest.mark.parametrize("build", [sam_hq_of, sam_of])
def test_exported_bundle_equals_transformers(
    transformers: ModuleType, tmp_path: Path, build: Callable[..., nn.Module]
) -> None:
    """From the folder that `save_pretrained` wrote to masks, for SAM-HQ and for plain SAM."""
    model = build(transformers, TINY, seed=8)
    model.save_pretrained(tmp_path / "weights")
    bundle = export(tmp_path / "weights", tmp_path / "bundle")
    assert bundle.manifest.sizes.has_hq == (build is sam_hq_of)
    reference, image = TransformersPredictor(model), photographs()["landscape 400 x 600"]
    reference.set_image(image)
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        for kind, multimask in itertools.product(ALL_PROMPTS, (False, True)):
            wish = prompts_for(image, kind, bundle.manifest.sizes.low_res_size)
            got = predictor.predict(**wish, multimask_output=multimask, return_logits=True)
            for ours, theirs in zip(got, reference.predict(**wish, multimask_output=multimask), strict=True):
                assert ours.shape == theirs.shape
                assert np.abs(ours - theirs).max() <= 1e-4 * max(float(np.ptp(theirs)), 1e-2), (kind, multimask)
            assert iou(got[0] > 0, reference.predict(**wish, multimask_output=multimask)[0] > 0) >= MASK_IOU


@pytest.mark.parametrize(("stored", "expected"), [(None, 1e-6), (1e-6, 1e-6), (1e-3, 1e-3)])
@torch.no_grad()
def test_eps_of_the_decoder(transformers: ModuleType, tmp_path: Path, stored: float | None, expected: float) -> None:
    """No tensor shows it: it comes from the configuration, and the tokens of an untrained model feel it."""
    sizes = TINY | {"mask_decoder_config": {**TINY["mask_decoder_config"], "layer_norm_eps": expected}}
    theirs = sam_hq_of(transformers, sizes)
    theirs.save_pretrained(tmp_path)
    if stored is None:
        edit(tmp_path, lambda config: config["mask_decoder_config"].pop("layer_norm_eps"))
    sam = load(tmp_path)
    assert sam.arch.decoder_norm_eps == expected
    assert_same_model(theirs, sam)


def test_defaults_are_those_of_transformers(transformers: ModuleType) -> None:
    for config, tables in (
        (transformers.SamHQConfig(), (FIXED, SIZES, HQ_SIZES)),
        (transformers.SamConfig(), (FIXED, SIZES)),
    ):
        written = config.to_dict()
        written["vision_config"]["mlp_dim"] = None  # transformers writes the product it stands for
        for section, name, value in ((s, n, v) for table in tables for s in table for n, v in table[s].items()):
            got = written[section][name]
            assert (tuple(got) if isinstance(got, list) else got) == value, (section, name)


def test_left_out_settings_are_defaults(folder: Path) -> None:
    edit(folder, lambda config: config["mask_decoder_config"].pop("num_hidden_layers"))
    read_huggingface(folder)
    edit(folder, lambda config: config["vision_config"].pop("hidden_size"))
    with pytest.raises(CheckpointError, match=r"vision_config\.hidden_size is 768, expected 48"):
        read_huggingface(folder)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("vision_config", "num_attention_heads", 8, r"num_attention_heads is 8, expected 4 by the shapes"),
        ("vision_config", "window_size", 14, r"window_size is 14, expected 5"),
        ("vision_config", "global_attn_indexes", [0], r"global_attn_indexes is \(0,\), expected \(1, 3\)"),
        ("vision_config", "hidden_act", "relu", r"hidden_act is 'relu', expected 'gelu' but only that value"),
        ("mask_decoder_config", "num_attention_heads", 4, r"num_attention_heads is 4, expected 8"),
        ("mask_decoder_config", "vit_dim", 768, r"vit_dim is 768, expected 48"),
        ("prompt_encoder_config", "image_size", 256, r"prompt_encoder_config\.image_size is 256"),
        ("mask_decoder_config", "iou_head_depth", 4, r"iou_head_depth is 4, expected 3"),
        ("mask_decoder_config", "layer_norm_eps", "small", r"layer_norm_eps is 'small', expected a number"),
        ("mask_decoder_config", "layer_norm_eps", -1e-6, r"layer_norm_eps is -1e-06, expected a number"),
    ],
)
def test_config_of_another_model(folder: Path, section: str, name: str, value: object, message: str) -> None:
    edit(folder, lambda config: config[section].update({name: value}))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_other_model_type(folder: Path) -> None:
    edit(folder, lambda config: config.update(model_type="sam2"))
    with pytest.raises(CheckpointError, match="a model of type 'sam2'"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json: no such file"),
        ("config.json", b"{", "cannot be read as JSON"),
        ("config.json", b"[]", "holds a list"),
        ("config.json", b'{"model_type": "sam_hq", "vision_config": 3}', "vision_config is 3, expected an object"),
        ("model.safetensors", None, "neither model.safetensors nor"),
        ("model.safetensors", b"\x08" + bytes(7) + b"nonsense", "cannot be read as safetensors"),
    ],
)
def test_damaged_folder(folder: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("shard", "message"),
    [("model-00001-of-00002.safetensors", "is missing, one of 1 shards"), ("../x.safetensors", "of the same folder")],
)
def test_index_of_shards_that_are_not_here(folder: Path, shard: str, message: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(folder)


def test_tied_tensors_must_agree(folder: Path) -> None:
    file, twin = folder / "model.safetensors", "prompt_encoder.shared_embedding.positional_embedding"
    tensors = load_file(file)
    save_file(tensors | {twin: tensors["shared_image_embedding.positional_embedding"].clone()}, file)
    read_huggingface(folder)
    save_file(tensors | {twin: tensors["shared_image_embedding.positional_embedding"] + 1}, file)
    with pytest.raises(CheckpointError, match="differs from its twin"):
        read_huggingface(folder)


def test_recognised_by_names(folder: Path, tmp_path: Path) -> None:
    official, damaged = tmp_path / "official.safetensors", tmp_path / "damaged.safetensors"
    save_file({"image_encoder.pos_embed": torch.zeros(1)}, official)
    damaged.write_bytes(b"nonsense")
    assert is_huggingface(folder)
    assert is_huggingface(folder / "model.safetensors")
    assert not [path for path in (official, damaged, tmp_path / "absent.safetensors") if is_huggingface(path)]


def test_missing_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["vision_encoder.pos_embed"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"image_encoder\.pos_embed"):
        read_huggingface(folder)
