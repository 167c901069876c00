"""Other input sizes: what is interpolated, and that the result is the official model built for that size."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samhq_exporter.architecture import VARIANTS, Architecture
from samhq_exporter.cli import main
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.model.tiny_vit import TinyViTEncoder, fold_weights
from samhq_exporter.weights.checkpoint import checkpoint_of_model, load_checkpoint
from samhq_exporter.weights.input_size import resize_state
from samhq_runtime import Predictor
from samhq_runtime.errors import CheckpointError
from samhq_runtime.evaluation.metrics import iou
from tests.support.bundles import export
from tests.support.models import TINY
from tests.support.official import import_official
from tests.support.parity import MASK_IOU, RELATIVE_ERROR, assert_close, randomise
from tests.support.reference import (
    ALL_PROMPTS,
    official_predictions,
    official_sam,
    photographs,
    prompts_for,
    tiny_vit_of,
)

SIZES = (80, 112, 192)  # a grid of exactly one window, of windows that need padding, larger than trained


def sized(arch: Architecture, image_size: int) -> Architecture:
    return dataclasses.replace(arch, image_size=image_size)


@pytest.fixture(scope="module", params=["segment_anything_hq", "segment_anything"])
def trained(request: pytest.FixtureRequest) -> tuple[Any, nn.Module]:
    package = import_official(request.param)
    sam = official_sam(package, TINY)
    randomise(sam, seed=21)
    return package, sam


def official_at(package: Any, sam: nn.Module, image_size: int, arch: Architecture = TINY) -> nn.Module:
    """The official model for that size. Relative positions keep their trained length: `get_rel_pos` resizes them."""
    other = official_sam(package, sized(arch, image_size))
    state = dict(sam.state_dict())
    pos_embed = state["image_encoder.pos_embed"].permute(0, 3, 1, 2)
    grid = (image_size // arch.patch_size,) * 2
    resized = F.interpolate(pos_embed, size=grid, mode="bicubic", align_corners=False)
    state["image_encoder.pos_embed"] = resized.permute(0, 2, 3, 1)
    for name, parameter in other.named_parameters():
        if ".rel_pos_" in name:
            parameter.data = torch.empty_like(state[name])
    other.load_state_dict(state, strict=True)
    return other


@pytest.mark.parametrize("image_size", SIZES)
@torch.no_grad()
def test_the_encoder_is_the_official_one_of_that_size(trained: tuple[Any, nn.Module], image_size: int) -> None:
    package, sam = trained
    ours = checkpoint_of_model(sam, image_size=image_size).sam
    assert ours.arch == sized(TINY, image_size)
    input_image = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(2))
    expected = official_at(package, sam, image_size).image_encoder(input_image)
    assert_close(ours.encode_image(input_image)[0], expected if torch.is_tensor(expected) else expected[0])


def test_exported_bundle_equals_the_official_model_of_that_size(tmp_path: Path) -> None:
    package = import_official()
    sam = official_sam(package, TINY)
    randomise(sam, seed=23)
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    bundle = export(tmp_path / "sam.pth", tmp_path / "bundle", image_size=112)
    assert bundle.manifest.sizes.image_size == 112
    reference = package.SamPredictor(official_at(package, sam, 112))
    image = photographs()["landscape 400 x 600"]
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        reference.set_image(image)
        for kind, multimask in itertools.product(ALL_PROMPTS, (False, True)):
            prompts = prompts_for(image, kind, bundle.manifest.sizes.low_res_size)
            expected = official_predictions(reference, prompts, multimask_output=multimask)
            got = predictor.predict(**prompts, return_logits=True, multimask_output=multimask)
            for ours, theirs in zip(got, expected, strict=True):
                assert ours.shape == theirs.shape
                assert np.abs(ours - theirs).max() <= 1e-3 * max(float(np.ptp(theirs)), 1e-2), (kind, multimask)
            assert iou(got[0] > 0, expected[0] > 0) >= MASK_IOU, (kind, multimask)


def test_the_variant_stays_and_the_trained_size_changes_nothing(tiny_checkpoint: Path) -> None:
    plain, same = (load_checkpoint(tiny_checkpoint, image_size=size).sam for size in (None, TINY.image_size))
    assert same.arch == plain.arch
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in plain.state_dict().items())
    demo = load_checkpoint(DEMO_CHECKPOINT, image_size=192)
    assert (demo.variant, demo.sam.arch.image_size) == ("demo", 192)


def test_only_what_depends_on_the_grid_is_touched() -> None:
    state = official_sam(import_official(), TINY).state_dict()
    changed = {key for key, value in resize_state(state, sized(TINY, 96)).items() if value is not state[key]}
    tables = {f"image_encoder.blocks.{i}.attn.rel_pos_{axis}" for i in (1, 3) for axis in "hw"}
    assert changed == {"image_encoder.pos_embed"} | tables


@torch.no_grad()
def test_tiny_vit_at_another_size() -> None:
    """Upstream's `forward_features` can only reshape to 64 x 64, its layers take any grid."""
    official = tiny_vit_of(512)
    randomise(official, seed=22)
    official.eval()
    encoder = TinyViTEncoder(sized(VARIANTS["vit_tiny"], 512))
    prefix = "image_encoder."
    state: dict[str, Tensor] = fold_weights({prefix + key: value for key, value in official.state_dict().items()})
    encoder.load_state_dict({key.removeprefix(prefix): value for key, value in state.items()}, strict=True)
    x = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    got, early = encoder.eval()(x)
    for index, layer in enumerate([official.patch_embed, *official.layers]):
        x = layer(x)
        if index == 2:
            assert_close(early.flatten(1, 2), x)
    assert_close(got, official.neck(x.reshape(1, 32, 32, -1).permute(0, 3, 1, 2)))


@pytest.mark.parametrize("image_size", [0, -16, 100, 1])
def test_sizes_that_do_not_fit(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], image_size: int
) -> None:
    command = ["--checkpoint", str(tiny_checkpoint), "--output", str(tmp_path / "bundle")]
    assert main([*command, "--image-size", str(image_size)]) == 1
    assert f"got {image_size}, expected a multiple of 16 for this model" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_table_is_still_reported(tiny_checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_checkpoint, weights_only=True)
    del state["image_encoder.blocks.1.attn.rel_pos_w"]
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="rel_pos_w"):
        load_checkpoint(tmp_path / "m.pth", image_size=64)


@pytest.mark.slow
def test_vit_b_bundle_at_another_size(tmp_path: Path) -> None:
    """Export, its own parity gate against PyTorch, and the official model of that size on a photograph."""
    image_size = 256
    package = import_official()
    trained = package.sam_model_registry["vit_b"]()
    randomise(trained, seed=24)
    torch.save(trained.state_dict(), tmp_path / "sam_hq_vit_b.pth")
    bundle = export(tmp_path / "sam_hq_vit_b.pth", tmp_path / "bundle", image_size=image_size)
    assert bundle.manifest.sizes.image_size == image_size
    reference = package.SamPredictor(official_at(package, trained, image_size, arch=VARIANTS["vit_b"]))
    image = photographs()["landscape 400 x 600"]
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        reference.set_image(image)
        for kind in ALL_PROMPTS:
            prompts = prompts_for(image, kind, bundle.manifest.sizes.low_res_size)
            expected = official_predictions(reference, prompts, multimask_output=False)
            got = predictor.predict(**prompts, return_logits=True, multimask_output=False)
            assert np.abs(got[0] - expected[0]).max() <= RELATIVE_ERROR * np.ptp(expected[0]), kind
            assert iou(got[0] > 0, expected[0] > 0) >= MASK_IOU, kind
