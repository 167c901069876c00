"""Between the original frame (H, W of the caller's image) and the model frame (longest side = `image_size`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..contract import Float32
from ..errors import ImageError
from ..installing import unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence


def fit_longest_side(original_hw: tuple[int, int], image_size: int) -> tuple[int, int]:
    """(H, W) scaled so that max(H, W) == image_size; halves round up (`ResizeLongestSide.get_preprocess_shape`)."""
    scale = image_size * 1.0 / max(original_hw)
    height, width = (int(n * scale + 0.5) for n in original_hw)
    return max(height, 1), max(width, 1)


def to_model_frame(coords_xy: NDArray[np.floating], original_hw: tuple[int, int], image_size: int) -> Float32:
    """(..., 2) x, y pixels of the original frame -> float32 pixels of the model frame (`apply_coords` upstream)."""
    height, width = fit_longest_side(original_hw, image_size)
    scale = np.array([width / original_hw[1], height / original_hw[0]])
    return (np.asarray(coords_xy, dtype=np.float64) * scale).astype(np.float32)


def require_image(image: object) -> NDArray[np.uint8]:
    """`image` if it is a (H,W,3) uint8 array with pixels in it, else ImageError."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"image: got {type(image).__name__}, expected a numpy array (H, W, 3) uint8 RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(
            f"image: got {image.dtype} {image.shape}, expected uint8 (H, W, 3) RGB; "
            "convert grey or RGBA pictures first, e.g. PIL.Image.convert('RGB')"
        )
    if 0 in image.shape:
        raise ImageError(f"image: got {image.shape}, expected at least one pixel")
    return image


def preprocess(
    image: NDArray[np.uint8], image_size: int, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> Float32:
    """(H,W,3) uint8 RGB -> `input_image` (1,3,S,S): resized as SAM does, normalised, then zero-padded."""
    return normalise(fit_image(image, image_size), image_size, pixel_mean, pixel_std)


def fit_image(image: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """(H,W,3) uint8 RGB, resized so that the longest side is `image_size`.

    The resize is Pillow's antialiased bilinear one, the one upstream trained and evaluates with.
    """
    try:
        from PIL import Image
    except Exception as e:  # a broken native package raises whatever its loader does
        raise unavailable("Pillow", e, "pip install Pillow", use="images are resized with it") from e
    height, width = fit_longest_side((image.shape[0], image.shape[1]), image_size)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def normalise(
    fitted: NDArray[np.uint8], image_size: int, pixel_mean: Sequence[float], pixel_std: Sequence[float]
) -> Float32:
    """What `fit_image` returns -> `input_image` (1,3,S,S), zero-padded."""
    mean = np.asarray(pixel_mean, dtype=np.float32)[:, None, None]
    std = np.asarray(pixel_std, dtype=np.float32)[:, None, None]
    input_image = np.zeros((1, 3, image_size, image_size), dtype=np.float32)
    plane = input_image[0, :, : fitted.shape[0], : fitted.shape[1]]
    np.subtract(fitted.transpose(2, 0, 1), mean, out=plane)
    np.divide(plane, std, out=plane)
    return input_image
