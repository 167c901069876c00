"""A mask as its runs down the columns: what is kept of hundreds of masks, none of which is there pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..contract import Int64


@dataclass(frozen=True, eq=False)
class Runs:
    """A (H,W) mask. A position is x * (H + 1) + y: every column has a place more than pixels, so no run leaves its own.

    Attributes:
        hw: (H, W).
        starts: (N,) int64, in order: positions of the first pixels of the runs.
        stops: (N,) int64: the positions behind their last pixels.
    """

    hw: tuple[int, int]
    starts: Int64
    stops: Int64

    @property
    def stride(self) -> int:
        """From a pixel to its neighbour in the next column."""
        return self.hw[0] + 1

    @property
    def lengths(self) -> Int64:
        return self.stops - self.starts

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(self.lengths.sum())

    def box(self) -> Int64:
        """(4,) x0, y0, x1, y1 of the outermost columns and rows, both inclusive; zeros for an empty mask."""
        if not len(self.starts):
            return np.zeros(4, np.int64)
        top, bottom = (self.starts % self.stride).min(), (self.stops % self.stride).max() - 1
        return np.array([self.starts[0] // self.stride, top, self.starts[-1] // self.stride, bottom], np.int64)

    def moved(self, x0: int, y0: int, hw: tuple[int, int]) -> Runs:
        """The same pixels in a mask of the size `hw`, in which this one begins at x0, y0."""
        columns, rows = np.divmod(self.starts, self.stride)
        starts = (columns + x0) * (hw[0] + 1) + rows + y0
        return Runs(hw, starts, starts + self.lengths)

    def chosen(self, which: NDArray[np.bool_]) -> Runs:
        """Some of the runs."""
        return Runs(self.hw, self.starts[which], self.stops[which])

    def complement(self) -> Runs:
        """The pixels that are not in this mask."""
        tops = np.arange(self.hw[1]) * self.stride
        starts = np.sort(np.concatenate([tops, self.stops]))
        stops = np.sort(np.concatenate([self.starts, tops + self.hw[0]]))
        return Runs(self.hw, starts, stops).chosen(starts < stops)

    def counts(self) -> Int64:
        """COCO's run lengths: background and mask in turn down the columns, one after the other; the first may be 0."""
        height, width = self.hw
        if not len(self.starts):
            return np.array([height * width], np.int64)
        firsts, lasts = (pixels - pixels // self.stride for pixels in (self.starts, self.stops - 1))
        apart = firsts[1:] != lasts[:-1] + 1  # a run that ends its column and one that begins the next are one
        ends = np.stack([firsts[np.append(True, apart)], lasts[np.append(apart, True)] + 1], axis=1).ravel()
        counts = np.diff(ends, prepend=0, append=height * width)
        return counts if counts[-1] else counts[:-1]


def find_runs(columns: NDArray[np.bool_]) -> tuple[Int64, Int64]:
    """`starts` and `stops` of the runs in columns (W, H + 1), the last place of each False; positions as in `Runs`."""
    flat = columns.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[0]:
        changes = np.concatenate([[0], changes])
    return changes[::2], changes[1::2]
