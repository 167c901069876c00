"""Low-resolution logits -> a mask as runs and how stable it is, without a picture of its size.

Every pixel of the upscaled logits lies between the low-resolution logits around it. Where all of these are on one side
of the three thresholds, so is the whole block of pixels, and nothing has to be upscaled: only blocks at edges are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..contract import Array, Float32, Float64, Int64, ModelFrame
from .runs import Runs, find_runs
from .upscale import Band, bands, trimmed


def upscale_runs(
    low_res_logits: Float32, original_hw: tuple[int, int], frame: ModelFrame, *, threshold: float, offset: float
) -> tuple[Runs, np.float32]:
    """(L,L) logits -> the mask above `threshold` at `original_hw`, and its stability score.

    The score is the area above `threshold + offset` over that above `threshold - offset`; NaN if both are 0. Memory is
    that of 64 columns.
    """
    rows, columns = bands(low_res_logits.shape[-1], original_hw, frame)
    used, rows = trimmed(rows)
    logits = low_res_logits[used].astype(np.float64)
    levels = threshold + offset, threshold, threshold - offset
    inside = _extremes(logits, rows, columns, np.min) > levels[0]
    outside = _extremes(logits, rows, columns, np.max) < levels[2]
    stride = original_hw[0] + 1
    areas, ends = np.zeros(2, np.int64), [np.zeros((2, 0), np.int64)]
    for index in np.flatnonzero(~outside.all(axis=0)):
        column = columns[index]
        pixels = np.zeros((len(column.weights), stride), np.bool_)
        wide = column.weights @ logits[:, column.sources].T
        areas += _fill(pixels, wide, rows, inside[:, index], outside[:, index], levels)
        ends.append(np.stack(find_runs(pixels)) + column.targets.start * stride)
    with np.errstate(invalid="ignore"):
        score = np.divide(*areas.astype(np.float32), dtype=np.float32)
    return Runs(original_hw, *np.concatenate(ends, axis=1)), score


def _extremes(
    logits: Float64, rows: tuple[Band, ...], columns: tuple[Band, ...], extreme: Callable[..., Array]
) -> Array:
    """(row bands, column bands): the least or greatest of the logits that a block of pixels is made of."""
    of_rows = np.stack([extreme(logits[row.sources], axis=0) for row in rows])
    return np.stack([extreme(of_rows[:, column.sources], axis=1) for column in columns], axis=1)


def _fill(
    pixels: NDArray[np.bool_],
    wide: Float64,
    rows: tuple[Band, ...],
    inside: NDArray[np.bool_],
    outside: NDArray[np.bool_],
    levels: tuple[float, float, float],
) -> Int64:
    """Write the mask into `pixels` (w, H + 1); pixels above the highest and the lowest of the levels."""
    high, middle, low = levels
    areas = np.zeros(2, np.int64)
    for row, all_in, all_out in zip(rows, inside, outside, strict=True):
        if all_out:
            continue
        block = pixels[:, row.targets]
        if all_in:
            block[:] = True
            areas += block.size
            continue
        logits = wide[:, row.sources] @ row.weights.T
        np.greater(logits, middle, out=block)
        areas += np.count_nonzero(logits > high), np.count_nonzero(logits > low)
    return areas
