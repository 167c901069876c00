"""Small holes filled and small islands removed, on the runs of a mask: no picture of it is needed, and no OpenCV.

The rules are those of `remove_small_regions` of the official packages, which ask OpenCV for the connected components.
"""

from __future__ import annotations

import numpy as np

from ..contract import Int64
from .runs import Runs


def without_small_regions(mask: Runs, min_area: int) -> tuple[Runs, bool]:
    """Holes, then islands, of less than `min_area` pixels filled and removed; whether there were any.

    Pixels that touch at a corner hang together, in holes too. If every island is small, the largest stays.
    """
    background = mask.complement()
    components, areas = _components(background)
    holes = areas < min_area
    if holes.any():
        mask = background.chosen(~holes[components]).complement()
    components, areas = _components(mask)
    islands = areas < min_area
    if not islands.any():
        return mask, bool(holes.any())
    if islands.all():
        islands[_largest(mask, components, areas)] = False
    return mask.chosen(~islands[components]), True


def _components(mask: Runs) -> tuple[Int64, Int64]:
    """(runs,) which component each run is part of, (components,) pixels of each."""
    left, right = _neighbours(mask)
    roots = np.arange(len(mask.starts))
    while not np.array_equal(of_left := roots[left], of_right := roots[right]):
        lowest = np.minimum(of_left, of_right)
        np.minimum.at(roots, of_left, lowest)
        np.minimum.at(roots, of_right, lowest)
        while not np.array_equal(roots[roots], roots):
            roots = roots[roots]
    _, components = np.unique(roots, return_inverse=True)
    return components, np.bincount(components, weights=mask.lengths).astype(np.int64)


def _neighbours(mask: Runs) -> tuple[Int64, Int64]:
    """Pairs of runs in columns side by side that touch, at a corner too: indices of the left and of the right ones."""
    first = np.searchsorted(mask.stops, mask.starts + mask.stride, side="left")
    behind = np.searchsorted(mask.starts, mask.stops + mask.stride, side="right")
    counts = behind - first
    left = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    return left, first[left] + within


def _largest(mask: Runs, components: Int64, areas: Int64) -> int:
    """The component of most pixels; of several the first in OpenCV's order, by squares of 2 x 2 pixels, row by row."""
    columns, rows = np.divmod(mask.starts, mask.stride)
    squares = rows // 2 * mask.hw[1] + columns // 2
    first = np.full(len(areas), np.iinfo(np.int64).max)
    np.minimum.at(first, components, squares)
    return int(np.lexsort((first, -areas))[0])
