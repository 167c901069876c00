"""What a seam cut is joined: two tiles that agree about what both of them see saw one object."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from .pieces import Piece
from .tiles import Tile

if TYPE_CHECKING:
    from shapely import Geometry


@dataclass(frozen=True)
class RasterObject:
    """An object of the raster, in its pixels; the scores are the means of its pieces', weighted by their areas."""

    outline: Geometry
    predicted_iou: float
    stability_score: float
    pieces: int


def join(pieces: Sequence[Piece], *, least_iou: float) -> list[RasterObject]:
    """The objects that the pieces are of, from the top left to the bottom right; that of `pieces` has no influence.

    Two pieces of tiles that overlap are of one object if, in the overlap, each of them is the other's best match among
    all of that tile's, with an IoU of at least `least_iou`. So whole objects that two tiles see are not there twice,
    and the parts of one do not pull the parts of another along.
    """

    ordered = sorted(pieces, key=_place)
    groups = _Groups(len(ordered))
    for first, second in _mates(ordered, least_iou):
        groups.join(first, second)
    return [_united([ordered[i] for i in group]) for group in groups.all()]


def _place(piece: Piece) -> tuple[Any, ...]:
    return piece.tile.y, piece.tile.x, piece.outline.bounds, piece.outline.area, piece.outline.wkb


def _mates(pieces: Sequence[Piece], least_iou: float) -> list[tuple[int, int]]:
    """Pairs of indices."""
    by_tile: dict[Tile, list[int]] = defaultdict(list)
    for i, piece in enumerate(pieces):
        by_tile[piece.tile].append(i)
    return [
        pair
        for first, second in combinations(by_tile, 2)
        if (shared := _shared(first, second))
        for pair in _matched(by_tile[first], by_tile[second], pieces, shared, least_iou)
    ]


def _shared(first: Tile, second: Tile) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of what both see."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = first.box, second.box
    x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _matched(
    first: Sequence[int],
    second: Sequence[int],
    pieces: Sequence[Piece],
    shared: tuple[int, int, int, int],
    least_iou: float,
) -> list[tuple[int, int]]:
    """Pairs of one tile's and another's that are each other's best; of equals the earlier one is the best."""
    import shapely

    window = shapely.box(*shared)
    a, b = ([(i, shapely.intersection(pieces[i].outline, window)) for i in side] for side in (first, second))
    a, b = ([(i, outline) for i, outline in side if outline.area > 0] for side in (a, b))
    if not a or not b:
        return []
    left, right = (np.array([outline for _, outline in side], object) for side in (a, b))
    both = shapely.area(shapely.intersection(left[:, None], right[None]))
    iou = both / (shapely.area(left)[:, None] + shapely.area(right)[None] - both)
    best_of_a, best_of_b = iou.argmax(1), iou.argmax(0)
    return [(a[i][0], b[j][0]) for i, j in enumerate(best_of_a) if best_of_b[j] == i and iou[i, j] >= least_iou]


def _united(pieces: Sequence[Piece]) -> RasterObject:
    import shapely

    areas = [piece.outline.area for piece in pieces]
    scores = np.average([(piece.predicted_iou, piece.stability_score) for piece in pieces], axis=0, weights=areas)
    outline = shapely.union_all([piece.outline for piece in pieces])
    return RasterObject(
        shapely.normalize(shapely.simplify(outline, 0)), float(scores[0]), float(scores[1]), len(pieces)
    )


class _Groups:
    """Disjoint sets of indices."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self._root(first), self._root(second)))
        self._parent[high] = low

    def all(self) -> list[list[int]]:
        """By their first members."""
        groups: dict[int, list[int]] = defaultdict(list)
        for i in range(len(self._parent)):
            groups[self._root(i)].append(i)
        return [groups[root] for root in sorted(groups)]

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i
