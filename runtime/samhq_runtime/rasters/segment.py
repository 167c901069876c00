"""The order of things: tiles one after the other, what they show joined, the objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..callbacks import Show
from .kept import KeptTiles
from .pieces import Piece, pieces_of
from .pixels import Raster
from .seams import RasterObject, join
from .tiles import Tile


class Generator(Protocol):
    """What is asked of `MaskGenerator`, with `output_mode="binary_mask"`."""

    def generate(self, image: NDArray[np.uint8]) -> list[dict[str, Any]]: ...


def segment_raster(
    raster: Raster,
    generator: Generator,
    tiles: Sequence[Tile],
    *,
    seam_iou: float = 0.5,
    kept: KeptTiles | None = None,
    show: Show = lambda fraction, phase: None,
) -> list[RasterObject]:
    """Everything that a generator of masks finds in a raster.

    One tile is held at a time, and the polygons of all. In which order they are done has no influence.

    Args:
        tiles: of `Tiling.of(*raster.size)`.
        seam_iou: how well two tiles must agree, in what both see, for two pieces to be one object.
        kept: where tiles that are done are kept, and taken from.
        show: called after each tile.
    """
    pieces: list[Piece] = []
    for done, tile in enumerate(tiles, 1):
        pieces += _once(raster, generator, tile, kept)
        show(done / len(tiles), f"{len(pieces)} masks")
    return join(pieces, least_iou=seam_iou)


def _once(raster: Raster, generator: Generator, tile: Tile, kept: KeptTiles | None) -> list[Piece]:
    if kept is not None and (pieces := kept.read(tile)) is not None:
        return pieces
    picture, valid = raster.read(tile)
    pieces = pieces_of(generator.generate(picture), valid, tile) if valid.any() else []
    if kept is not None:
        kept.write(tile, pieces)
    return pieces
