"""Between the original frame (H, W of the caller's image) and the model frame (a square, see `ModelFrame`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..contract import Float32, ModelFrame
from ..installing import unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence


def fit_longest_side(original_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
    """(H, W) scaled so that max(H, W) == image_size; halves round up (`ResizeLongestSide.get_preprocess_shape`)."""
    scale = image_size * 1.0 / max(original_hw)
    height, width = (int(n * scale + 0.5) for n in original_hw)
    return max(height, 1), max(width, 1)


def fit_size(original_hw: tuple[int, int], frame: ModelFrame) -> tuple[int, int]:
    """(H, W) of the image in the model frame."""
    return (frame.side, frame.side) if frame.squashed else fit_longest_side(original_hw, frame.side)


def to_model_frame(coords_xy: NDArray[np.floating], original_hw: tuple[int, int], frame: ModelFrame) -> Float32:
    """(..., 2) x, y pixels of the original frame -> float32 pixels of the model frame (`apply_coords` upstream).

    SAM 2 divides by the image's size in float32, then multiplies by the frame's.
    """
    if frame.squashed:
        size = np.array([original_hw[1], original_hw[0]], np.float32)
        return np.asarray(coords_xy).astype(np.float32) / size * np.float32(frame.side)
    height, width = fit_longest_side(original_hw, frame.side)
    scale = np.array([width / original_hw[1], height / original_hw[0]])
    return (np.asarray(coords_xy, dtype=np.float64) * scale).astype(np.float32)


def preprocess(
    image: NDArray[np.uint8], frame: ModelFrame, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> Float32:
    """(H,W,3) uint8 RGB -> `input_image` (1,3,S,S): resized as upstream does, normalised, then zero-padded."""
    return normalise(fit_image(image, frame), frame.side, pixel_mean, pixel_std)


def fit_image(image: NDArray[np.uint8], frame: ModelFrame) -> NDArray[np.uint8] | Float32:
    """(H,W,3) uint8 RGB, resized for the model frame.

    The resize is Pillow's antialiased bilinear one, the one upstream trained and evaluates with. SAM 2 resizes what it
    has made floats of: float32 (S,S,3) between 0 and 255, not rounded.
    """
    try:
        from PIL import Image
    except Exception as e:  # a broken native package raises whatever its loader does
        raise unavailable("Pillow", e, "pip install Pillow", use="images are resized with it") from e
    height, width = fit_size((image.shape[0], image.shape[1]), frame)
    if frame.squashed:
        planes = (Image.fromarray(plane.astype(np.float32)) for plane in image.transpose(2, 0, 1))
        resized = (plane.resize((width, height), Image.Resampling.BILINEAR) for plane in planes)
        return np.stack([np.asarray(plane) for plane in resized], axis=2)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def normalise(
    fitted: NDArray[np.uint8] | Float32, image_size: int, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> Float32:
    """What `fit_image` returns -> `input_image` (1,3,S,S), zero-padded."""
    mean = np.asarray(pixel_mean, dtype=np.float32)[:, None, None]
    std = np.asarray(pixel_std, dtype=np.float32)[:, None, None]
    input_image = np.zeros((1, 3, image_size, image_size), dtype=np.float32)
    plane = input_image[0, :, : fitted.shape[0], : fitted.shape[1]]
    np.subtract(fitted.transpose(2, 0, 1), mean, out=plane)
    np.divide(plane, std, out=plane)
    return input_image
