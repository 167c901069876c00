"""The box around a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(H,W) mask -> x0, y0, x1, y1 of its pixels, the last row and column included."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
