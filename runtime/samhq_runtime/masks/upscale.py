"""Low-resolution logits -> masks of the original size, as `Sam.postprocess_masks` does it: two bilinear steps.

Where images are squashed there is nothing to crop between them, and one step, as in SAM 2.

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

from ..contract import Array, Float32, Float64, ModelFrame
from ..frames.geometry import fit_size

_BLOCK = 64  # output pixels along an axis: products so small that no BLAS library wakes threads for them
_BLOCKS = 4096  # of an axis at most; only sides beyond 262,144 pixels have larger blocks for it


@dataclass(frozen=True)
class Band:
    """`weights` (targets, sources): how some outputs of an axis are made of the few inputs they depend on."""

    targets: slice
    sources: slice
    weights: Float64

    def counted_from(self, start: int) -> Band:
        """The same for inputs of which the first `start` are left out."""
        return Band(self.targets, slice(self.sources.start - start, self.sources.stop - start), self.weights)


def upscale(low_res_logits: Float32, original_hw: tuple[int, int], frame: ModelFrame) -> Float32:
    """(..., L, L) logits -> (..., H, W): to the model frame, padding cropped, to the original size."""
    out = np.empty((*low_res_logits.shape[:-2], *original_hw), np.float32)
    _upscale(low_res_logits, frame, out, partial(np.copyto, casting="same_kind"))
    return out


def upscale_masks(
    low_res_logits: Float32, original_hw: tuple[int, int], frame: ModelFrame, *, threshold: float
) -> NDArray[np.bool_]:
    """`upscale(...) > threshold`, (..., H, W) bool, without the floats."""
    out = np.empty((*low_res_logits.shape[:-2], *original_hw), np.bool_)
    _upscale(low_res_logits, frame, out, lambda mask, logits: np.greater(logits, threshold, out=mask))
    return out


def _upscale(low_res_logits: Float32, frame: ModelFrame, out: Array, write: Callable[[Array, Float64], object]) -> None:
    height, width = out.shape[-2:]
    side = low_res_logits.shape[-1]
    rows, columns = bands(side, (height, width), frame)
    used, columns = trimmed(columns)
    for logits, mask in zip(low_res_logits.reshape(-1, side, side), out.reshape(-1, height, width), strict=True):
        for row in rows:
            tall = row.weights @ logits[row.sources, used]
            for column in columns:
                write(mask[row.targets, column.targets], tall[:, column.sources] @ column.weights.T)


def bands(side: int, original_hw: tuple[int, int], frame: ModelFrame) -> tuple[tuple[Band, ...], tuple[Band, ...]]:
    """How the rows, and how the columns, of a mask of `original_hw` are made of `side` low-resolution ones."""
    middle = ModelFrame(side, squashed=True) if frame.squashed else frame  # the first step then changes nothing
    crop = fit_size(original_hw, middle)
    return _bands(side, middle.side, crop[0], original_hw[0]), _bands(side, middle.side, crop[1], original_hw[1])


def trimmed(of_axis: tuple[Band, ...]) -> tuple[slice, tuple[Band, ...]]:
    """The sources that are used at all, and the bands counted from there: narrow pictures leave most out."""
    used = slice(of_axis[0].sources.start, of_axis[-1].sources.stop)
    return used, tuple(band.counted_from(used.start) for band in of_axis)


@lru_cache(maxsize=16)
def _bands(low_res: int, image_size: int, crop: int, size: int) -> tuple[Band, ...]:
    """The (size, low_res) matrix low_res -> image_size, cropped to `crop`, -> size, in blocks of its rows.

    The whole matrix is never there: a picture may be millions of pixels long, and a block needs a few columns.
    """
    block = max(_BLOCK, -(-size // _BLOCKS))
    return tuple(
        _band(low_res, image_size, crop, size, slice(start, min(start + block, size)))
        for start in range(0, size, block)
    )


def _band(low_res: int, image_size: int, crop: int, size: int, targets: slice) -> Band:
    to_size = _neighbours(np.arange(targets.start, targets.stop), crop, size)
    frame = slice(int(to_size.left[0]), int(to_size.right[-1]) + 1)  # of the model frame: both ends only grow
    to_frame = _neighbours(np.arange(frame.start, frame.stop), low_res, image_size)
    first, last = int(to_frame.left[0]), int(to_frame.right[-1])
    rows = to_size.shifted(frame.start).mix(to_frame.shifted(first).mix(np.eye(last + 1 - first)))
    used = np.flatnonzero(rows.any(axis=0))
    start, stop = int(used[0]), int(used[-1]) + 1
    return Band(targets, slice(first + start, first + stop), rows[:, start:stop].copy())


@dataclass(frozen=True)
class _Neighbours:
    """The two positions of an axis that each target lies between, and how far it is from the left one."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    fraction: Float64

    def shifted(self, start: int) -> _Neighbours:
        """The same, counted from `start`."""
        return _Neighbours(self.left - start, self.right - start, self.fraction)

    def mix(self, x: Float64) -> Float64:
        """(positions, C) -> (targets, C)."""
        fraction = self.fraction[:, None]
        return (1 - fraction) * x[self.left] + fraction * x[self.right]


def _neighbours(targets: NDArray[np.int64], source: int, size: int) -> _Neighbours:
    """Of some of `size` targets, as `F.interpolate(mode="bilinear", align_corners=False)` makes them of `source`."""
    centres = np.maximum((targets + 0.5) * (source / size) - 0.5, 0)
    left = np.minimum(centres.astype(np.int64), source - 1)
    return _Neighbours(left, np.minimum(left + 1, source - 1), centres - left)
