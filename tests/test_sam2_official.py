"""`Predictor` on a bundle of SAM 2.1 against `SAM2ImagePredictor` of the package `sam2`, on photographs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from samhq_exporter.weights.checkpoint import checkpoint_of_model, load_checkpoint
from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle
from samhq_runtime.evaluation.metrics import iou
from tests.support.parity import MASK_IOU, RELATIVE_ERROR
from tests.support.reference import ALL_PROMPTS, official_predictions, photographs, prompts_for
from tests.support.sam2_reference import official_predictor, official_sam2

PHOTOGRAPHS = ("square 512", "landscape 400 x 600", "portrait 300 x 200")


@pytest.fixture(scope="module")
def official() -> nn.Module:
    return official_sam2("hiera_demo")


@pytest.mark.parametrize("photograph", PHOTOGRAPHS)
def test_predictions(official: nn.Module, sam2_bundle: Bundle, photograph: str) -> None:
    image, reference = photographs()[photograph], official_predictor(official)
    reference.set_image(image)
    with Predictor(sam2_bundle, threads=1) as predictor:
        predictor.set_image(image)
        low_res = predictor.bundle.manifest.sizes.low_res_size
        for kind, multimask in itertools.product((*ALL_PROMPTS, "mask alone"), (False, True)):
            prompts = prompts_of(image, kind, low_res)
            expected = official_predictions(reference, prompts, multimask_output=multimask)
            got = predictor.predict(**prompts, multimask_output=multimask, return_logits=True)
            assert_same(got, expected, f"{kind}, multimask_output={multimask}")


def prompts_of(image: NDArray[np.uint8], kind: str, low_res_size: int) -> dict[str, Any]:
    if kind == "mask alone":
        return {"mask_input": prompts_for(image, "mask", low_res_size)["mask_input"]}
    return prompts_for(image, kind, low_res_size)


def assert_same(got: tuple[Any, ...], expected: tuple[Any, ...], case: str) -> None:
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape, case
        assert np.abs(ours - theirs).max() <= RELATIVE_ERROR * max(float(np.ptp(theirs)), 1e-2), case
    for ours, theirs in zip(got[0] > 0, expected[0] > 0, strict=True):
        assert iou(ours, theirs) >= MASK_IOU or (ours != theirs).sum() <= 1, case


def test_a_model_in_memory(official: nn.Module, sam2_checkpoints: dict[str, Path]) -> None:
    """What `build_sam2` returns is the file's model, also for videos."""
    ours, file = checkpoint_of_model(official), load_checkpoint(sam2_checkpoints["sam2"])
    assert (ours.variant, ours.token_fusion, ours.file_name) == ("hiera_demo", "none", "SAM2Base object")
    assert ours.notice.startswith("SAM2Base object: 160 tensors are for videos alone and left out")
    theirs = file.sam.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.sam.state_dict().items())
