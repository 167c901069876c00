"""What one tile shows of the objects: polygons along the edges of pixels, in pixels of the raster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..masks.outline import outline_of
from .tiles import Tile

if TYPE_CHECKING:
    from shapely import Geometry


@dataclass(frozen=True)
class Piece:
    """An object, or what a tile shows of it. `outline` is a polygon or several, with holes where the mask has them."""

    tile: Tile
    outline: Geometry
    predicted_iou: float
    stability_score: float


def pieces_of(records: list[dict[str, Any]], valid: NDArray[np.bool_], tile: Tile) -> list[Piece]:
    """The masks of one tile as pieces, without their pixels that have no data.

    Args:
        records: of `MaskGenerator.generate`, with `segmentation` as (H,W) bool.
        valid: (H,W) bool, where the raster has data.
        tile: the window they are of.
    """
    masks = [(record, record["segmentation"] & valid) for record in records]
    return [
        Piece(tile, outline_of(mask, (tile.x, tile.y)), record["predicted_iou"], record["stability_score"])
        for record, mask in masks
        if mask.any()
    ]
