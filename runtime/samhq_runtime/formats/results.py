"""What a format is given: the masks of one image, and what the images of a run share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..masks.box import extent
from ..masks.outline import polygons_of
from ..masks.rle import area_of, decode_rle

CATEGORY = "object"  # of objects that have none


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """One object of an image.

    Attributes:
        rle: its mask, of the image's size, as COCO's run lengths `{"size": [H, W], "counts": "..."}`.
        predicted_iou: what the model says of the mask; None if that is no number.
        category: its name.
        score: of the detection that was the prompt, if it was one.
        annotation_id: of the COCO annotation that was the prompt, if it was one.
    """

    rle: Mapping[str, Any]
    predicted_iou: float | None
    category: str = CATEGORY
    score: float | None = None
    annotation_id: int | None = None

    def mask(self) -> NDArray[np.bool_]:
        """(H,W)."""
        return decode_rle(self.rle)

    def area(self) -> int:
        """Pixels of the mask."""
        return area_of(self.rle)

    def polygons(self, catalogue: Catalogue) -> list[Any]:
        """shapely's polygons with holes, as `polygons_of`."""
        return polygons_of(self.mask(), simplify=catalogue.simplify)


@dataclass(frozen=True)
class ImageResult:
    """The objects of one image.

    Attributes:
        image: its name in the run, a path with forward slashes.
        file: where it is.
        hw: its height and width in pixels, turned as its EXIF orientation says.
        objects: in the order of their prompts.
    """

    image: str
    file: Path
    hw: tuple[int, int]
    objects: Sequence[FoundObject]


@dataclass(frozen=True)
class Catalogue:
    """What the images of a run share.

    Attributes:
        categories: the id of each category by its name, in the order in which tools show them.
        image_ids: COCO's ids by the names of images; others are numbered from 1.
        simplify: by how many pixels polygons may depart from the edges of the masks' pixels.
    """

    categories: Mapping[str, int] = field(default_factory=lambda: {CATEGORY: 1})
    image_ids: Mapping[str, int] = field(default_factory=dict)
    simplify: float = 0.0


def bbox_of(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's x, y, width, height of a (H,W) mask, from edge to edge of its outermost pixels; zeros of an empty one."""
    rows, columns = extent(mask)
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
