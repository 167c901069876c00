"""The upscaling against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from samhq_runtime.contract import ModelFrame
from samhq_runtime.frames.geometry import fit_longest_side
from samhq_runtime.masks.upscale import upscale, upscale_masks


@pytest.mark.parametrize(
    "original_hw",
    [(1024, 1024), (64, 64), (37, 91), (91, 37), (333, 777), (1, 1), (1, 50), (50, 1), (3, 700), (1411, 1001)],
)
@pytest.mark.parametrize(("low_res", "image_size"), [(32, 128), (33, 131)])
def test_upscale_equals_two_interpolations(original_hw: tuple[int, int], low_res: int, image_size: int) -> None:
    logits = np.random.default_rng(1).normal(0, 5, (2, 1, low_res, low_res)).astype(np.float32)
    height, width = fit_longest_side(original_hw, image_size)
    expected = F.interpolate(torch.from_numpy(logits), (image_size, image_size), mode="bilinear", align_corners=False)
    expected = F.interpolate(expected[..., :height, :width], original_hw, mode="bilinear", align_corners=False)
    frame = ModelFrame(image_size)
    got = upscale(logits, original_hw, frame)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)
    masks = upscale_masks(logits, original_hw, frame, threshold=0.5)
    assert masks.dtype == np.bool_
    clear = np.abs(got - 0.5) > 1e-5  # `got` is rounded to float32, the masks are not
    np.testing.assert_array_equal(masks[clear], (got > 0.5)[clear])


@pytest.mark.parametrize("original_hw", [(64, 64), (37, 91), (333, 777), (1, 50)])
def test_squashed_images_take_one_interpolation(original_hw: tuple[int, int]) -> None:
    logits = np.random.default_rng(1).normal(0, 5, (2, 1, 32, 32)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(logits), original_hw, mode="bilinear", align_corners=False)
    got = upscale(logits, original_hw, ModelFrame(128, squashed=True))
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)
