"""Low-resolution logits -> masks of the original size, as `Sam.postprocess_masks` does it: two bilinear steps.

Both steps are linear and separable, so together they are one matrix per axis, and a narrow band of it at that: an
output pixel depends on a few logits. The bands are multiplied block by block, in float64, so a thresholded mask never
exists as floats of its full size, and does not depend on the order in which a BLAS library adds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from ..contract import Array
from ..frames.geometry import fit_longest_side

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BLOCK = 64  # output pixels along an axis: products so small that no BLAS library wakes threads for them


@dataclass(frozen=True)
class _Band:
    """`weights` (targets, sources): how some outputs of an axis are made of the few inputs they depend on."""

    targets: slice
    sources: slice
    weights: Float64


def upscale(low_res_logits: Float32, original_hw: tuple[int, int], image_size: int) -> Float32:
    """(..., L, L) logits -> (..., H, W): to the model frame, padding cropped, to the original size."""
    out = np.empty((*low_res_logits.shape[:-2], *original_hw), np.float32)
    _upscale(low_res_logits, image_size, out, partial(np.copyto, casting="same_kind"))
    return out


def upscale_masks(
    low_res_logits: Float32, original_hw: tuple[int, int], image_size: int, *, threshold: float
) -> NDArray[np.bool_]:
    """`upscale(...) > threshold`, (..., H, W) bool, without the floats."""
    out = np.empty((*low_res_logits.shape[:-2], *original_hw), np.bool_)
    _upscale(low_res_logits, image_size, out, lambda mask, logits: np.greater(logits, threshold, out=mask))
    return out


def _upscale(low_res_logits: Float32, image_size: int, out: Array, write: Callable[[Array, Float64], object]) -> None:
    height, width = out.shape[-2:]
    side = low_res_logits.shape[-1]
    crop = fit_longest_side((height, width), image_size)
    rows = _bands(side, image_size, crop[0], height)
    columns = _bands(side, image_size, crop[1], width)
    for logits, mask in zip(low_res_logits.reshape(-1, side, side), out.reshape(-1, height, width), strict=True):
        for row in rows:
            tall = row.weights @ logits[row.sources]
            for column in columns:
                write(mask[row.targets, column.targets], tall[:, column.sources] @ column.weights.T)


@lru_cache(maxsize=16)
def _bands(low_res: int, image_size: int, crop: int, size: int) -> tuple[_Band, ...]:
    """The (size, low_res) matrix low_res -> image_size, cropped to `crop`, -> size, in blocks of its rows."""
    matrix = _bilinear(_bilinear(np.eye(low_res), image_size)[:crop], size)
    bands = []
    for start in range(0, size, _BLOCK):
        block = matrix[start : start + _BLOCK]
        used = np.flatnonzero(block.any(axis=0))
        sources = slice(int(used[0]), int(used[-1]) + 1)
        bands.append(_Band(slice(start, start + len(block)), sources, block[:, sources].copy()))
    return tuple(bands)


def _bilinear(x: Float64, size: int) -> Float64:
    """(N, C) -> (size, C) as `F.interpolate(mode="bilinear", align_corners=False)` does along one axis."""
    centres = np.maximum((np.arange(size) + 0.5) * (len(x) / size) - 0.5, 0)
    left = np.minimum(centres.astype(np.int64), len(x) - 1)
    right = np.minimum(left + 1, len(x) - 1)
    fraction = (centres - left)[:, None]
    return (1 - fraction) * x[left] + fraction * x[right]
