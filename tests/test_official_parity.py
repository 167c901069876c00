"""`Predictor` on exported bundles against the official `SamPredictor`, on photographs and every kind of prompt."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.model import PlainSam
from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import ModelFrame
from samhq_runtime.evaluation.metrics import iou
from tests.support import official
from tests.support.bundles import export
from tests.support.models import TINY
from tests.support.official import import_official
from tests.support.parity import MASK_IOU, RELATIVE_ERROR, assert_close, randomise
from tests.support.reference import (
    ALL_PROMPTS,
    exact_masks,
    official_demo_sam,
    official_predictions,
    official_sam,
    photographs,
    prompts_for,
)

FP16_MASK_IOU = 0.99
ROUND_TRIP_IOU = 0.9998  # the first answers differ already, by rounding


EVERY_CHOICE = tuple(itertools.product((False, True), repeat=2))  # of multimask_output and hq_token_only


def assert_same(
    predictor: Predictor,
    reference: Any,
    images: dict[str, NDArray[np.uint8]],
    choices: tuple[tuple[bool, bool], ...] = EVERY_CHOICE,
) -> None:
    sizes = predictor.bundle.manifest.sizes
    low_res = sizes.low_res_size
    for name, image in images.items():
        predictor.set_image(image)
        reference.set_image(image)
        for kind, (multimask, hq_only) in itertools.product(ALL_PROMPTS, choices):
            prompts = prompts_for(image, kind, low_res)
            options = {"multimask_output": multimask, "hq_token_only": hq_only}
            expected = official_predictions(reference, prompts, **options)
            got = predictor.predict(**prompts, return_logits=True, **options)
            case = f"{name}, {kind}, {options}"
            assert_same_answer(got, expected, case)
            assert_exact_masks(got, expected, case, sizes.frame)
            if kind in ("point", "box"):  # each goes on from its own first answer
                corrected = prompts_for(image, "points", low_res)
                expected = official_predictions(reference, {**corrected, "mask_input": expected[2]}, **options)
                got = predictor.predict(**corrected, mask_input=got[2], return_logits=True, **options)
                assert_same_answer(got, expected, f"{case}, then its mask", least=ROUND_TRIP_IOU)


def assert_same_answer(got: tuple[Any, ...], expected: tuple[Any, ...], case: str, *, least: float = MASK_IOU) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape, case
        span = max(float(np.ptp(theirs)), 1e-2)
        assert np.abs(ours - theirs).max() <= RELATIVE_ERROR * span, case
    masks, official_masks = got[0] > 0, expected[0] > 0
    differing = int((masks != official_masks).sum())  # one pixel of a small mask costs more than the tolerance
    assert iou(masks, official_masks) >= least or differing <= 1, (case, differing)


def assert_exact_masks(got: tuple[Any, ...], expected: tuple[Any, ...], case: str, frame: ModelFrame) -> None:
    """Against the official logits upscaled in float64, which leaves the packages' largest rounding out."""
    masks = got[0] > 0
    exact = exact_masks(expected[2], masks.shape[-2:], frame)
    differing = int((masks != exact).sum())
    assert iou(masks, exact) >= MASK_IOU or differing <= 1, (case, differing)


def test_demo_sizes_with_random_weights(tmp_path: Path) -> None:
    sam = official_sam(import_official(), VARIANTS["demo"])
    randomise(sam, seed=1)
    torch.save(sam.state_dict(), tmp_path / "random.pth")
    with Predictor(export(tmp_path / "random.pth", tmp_path / "bundle")) as predictor:
        assert predictor.bundle.manifest.variant == "demo"
        assert_same(predictor, import_official().SamPredictor(sam), photographs())


def test_trained_demo_model(demo_bundle: Bundle) -> None:
    with Predictor(demo_bundle) as predictor:
        assert_same(predictor, import_official().SamPredictor(official_demo_sam()), photographs())


def test_fp16_keeps_the_masks_of_every_prompt(demo_bundle_fp16: Bundle) -> None:
    """Of the trained weights, against the official model in float32."""
    reference, ious = import_official().SamPredictor(official_demo_sam()), {}
    with Predictor(demo_bundle_fp16) as predictor:
        low_res = predictor.bundle.manifest.sizes.low_res_size
        for name, image in photographs().items():
            predictor.set_image(image)
            reference.set_image(image)
            for kind, multimask, hq_only in itertools.product(ALL_PROMPTS, (False, True), (False, True)):
                prompts = prompts_for(image, kind, low_res)
                options = {"multimask_output": multimask, "hq_token_only": hq_only}
                expected, *_ = official_predictions(reference, prompts, **options)
                got, *_ = predictor.predict(**prompts, return_logits=True, **options)
                ious[name, kind, multimask, hq_only] = iou(got > 0, expected > 0)
    assert not {case: value for case, value in ious.items() if value < FP16_MASK_IOU}


@pytest.mark.slow
def test_vit_b_with_random_weights(tmp_path: Path) -> None:
    sam = import_official().sam_model_registry["vit_b"]()
    randomise(sam, seed=2)
    torch.save(sam.state_dict(), tmp_path / "sam_hq_vit_b.pth")
    name = "landscape 400 x 600"
    with Predictor(export(tmp_path / "sam_hq_vit_b.pth", tmp_path / "bundle")) as predictor:
        assert predictor.bundle.manifest.variant == "vit_b"
        # The choice among the same masks is the demo sizes' to test; here each side of both is taken once.
        reference, choices = import_official().SamPredictor(sam.eval()), ((False, True), (True, False))
        assert_same(predictor, reference, {name: photographs()[name]}, choices)


def test_a_missing_reference_fails_the_whole_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "required", False)
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        import_official("no_such_package")
    monkeypatch.setattr(official, "required", True)
    with pytest.raises(ModuleNotFoundError):
        import_official("no_such_package")


def test_plain_sam_equals_segment_anything() -> None:
    """Our decoder without the HQ token is SAM's; with it, self-attention makes SAM's masks differ slightly."""
    reference = official_sam(import_official("segment_anything"), TINY)
    randomise(reference, seed=4)
    ours = PlainSam(TINY).eval().requires_grad_(False)
    ours.load_state_dict(reference.state_dict(), strict=True)
    embeddings, _ = ours.image_encoder(torch.randn(1, 3, TINY.image_size, TINY.image_size))
    points, labels = torch.rand(3, 2, 2) * TINY.image_size, torch.tensor([[1, 0], [1, 1], [0, 1]])
    sparse, dense = reference.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    image_pe = reference.prompt_encoder.get_dense_pe()
    logits, quality = reference.mask_decoder.predict_masks(embeddings, image_pe, sparse, dense)

    padded = torch.cat([points, torch.zeros(3, 1, 2)], dim=1), torch.cat([labels, -torch.ones(3, 1)], dim=1)
    side = 4 * TINY.embedding_size
    our_sparse, our_dense = ours.prompt_encoder(*padded, torch.zeros(1, 1, side, side), torch.zeros(1))
    tokens = embeddings.flatten(2).transpose(1, 2) + our_dense
    got = ours.mask_decoder(tokens.expand(3, -1, -1), ours.prompt_encoder.dense_pe(), our_sparse, torch.eye(4))
    assert_close(got[0], logits)
    assert_close(got[1], quality)
