"""The box around a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def extent(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of the smallest window that holds a (H,W) mask; empty slices for an empty mask."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 of the first and last columns and rows of a (H,W) mask, pixel indices, both inclusive.

    SAM adds half a pixel to coordinates, so indices are the centres of the outermost pixels, as it was trained.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = extent(mask)
    if rows.stop == 0:
        raise ValueError("an empty mask has no box")
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1
