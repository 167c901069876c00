"""Frames: sizes and coordinates by hand, and `input_image` against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime.contract import ModelFrame
from samhq_runtime.errors import ImageError
from samhq_runtime.frames.arrays import require_image
from samhq_runtime.frames.geometry import fit_longest_side, preprocess, to_model_frame

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("original_hw", "image_size", "expected"),
    [
        ((427, 640), 1024, (683, 1024)),
        ((640, 427), 1024, (1024, 683)),
        ((1024, 1024), 1024, (1024, 1024)),
        ((1, 1), 1024, (1024, 1024)),
        ((3, 4), 2, (2, 2)),  # 1.5 rounds up
        ((5, 5000), 1024, (1, 1024)),
        ((1, 5000), 1024, (1, 1024)),  # 0.2 would be no row at all
    ],
)
def test_fit_longest_side(original_hw: tuple[int, int], image_size: int, expected: tuple[int, int]) -> None:
    assert fit_longest_side(original_hw, image_size) == expected


@pytest.mark.parametrize(
    ("original_hw", "coords_xy", "expected"),
    [
        ((100, 200), [[200.0, 100.0]], [[1024.0, 512.0]]),
        ((427, 640), [[0.0, 0.0], [640.0, 427.0]], [[0.0, 0.0], [1024.0, 683.0]]),  # 683 / 427, not 1.6
        ((2048, 1024), [[-2.0, 4096.0]], [[-1.0, 2048.0]]),  # outside stays outside
    ],
)
def test_to_model_frame(
    original_hw: tuple[int, int], coords_xy: list[list[float]], expected: list[list[float]]
) -> None:
    got = to_model_frame(np.array(coords_xy), original_hw, ModelFrame(1024))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(48, 64, 3), (64, 48, 3), (200, 133, 3), (1, 1, 3), (1, 300, 3)])
def test_preprocess_resizes_normalises_and_pads_with_zeros(shape: tuple[int, ...]) -> None:
    image, side = noise(*shape), 64
    got = preprocess(image, ModelFrame(side), MEAN, STD)
    height, width = fit_longest_side((shape[0], shape[1]), side)
    resized = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    expected = ((resized - np.array(MEAN)) / STD).transpose(2, 0, 1)
    assert got.shape == (1, 3, side, side)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0, :, :height, :width], expected, atol=1e-5)
    assert not got[:, :, height:].any()
    assert not got[:, :, :, width:].any()


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        ([[0]], "list"),
        (None, "NoneType"),
        (noise(4, 4), "grey"),
        (noise(4, 4, 1), "expected uint8"),
        (noise(4, 4, 4), "RGBA"),
        (noise(1, 4, 4, 3), "expected uint8"),
        (noise(3, 4, 4).astype(np.float32), "float32"),
        (noise(4, 4, 3) / 255, "float64"),
        (noise(4, 4, 3) > 9, "bool"),
        (noise(0, 4, 3), "at least one pixel"),
        (noise(4, 0, 3), "at least one pixel"),
    ],
)
def test_require_image_refuses(image: object, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        require_image(image)


def test_require_image_accepts_views() -> None:
    image = noise(8, 8, 3)[::2, ::-1]
    assert require_image(image) is image
    np.testing.assert_array_equal(
        preprocess(image, ModelFrame(16), MEAN, STD), preprocess(image.copy(), ModelFrame(16), MEAN, STD)
    )
