"""labelme's files: a JSON for each image, polygons where they say all, else a painted mask."""

from __future__ import annotations

import base64
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_json
from ..masks.box import box_of
from ..masks.outline import corners_of
from .results import Catalogue, FoundObject, ImageResult

_VERSION = "5.4.1"  # of labelme, whose files these are like


def write_image(path: Path, result: ImageResult, catalogue: Catalogue) -> None:
    """The shapes of one image; the image itself is named, relative to the file, not copied into it."""
    height, width = result.hw
    shapes = [shape for number, item in enumerate(result.objects, 1) for shape in _shapes(item, number, catalogue)]
    content: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(result.file, path.parent)).as_posix(),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_json(path, content)


def _shapes(item: FoundObject, number: int, catalogue: Catalogue) -> list[dict[str, Any]]:
    """A polygon for each part of an object, which share a group; of one with holes a mask; of an empty one nothing."""
    polygons = item.polygons(catalogue)
    if any(polygon.interiors for polygon in polygons):
        mask = item.mask()
        x0, y0, x1, y1 = box_of(mask)
        corners = [[float(x0), float(y0)], [float(x1), float(y1)]]
        return [_shape(item, None, "mask", corners, _png(mask[y0 : y1 + 1, x0 : x1 + 1]))]
    group = number if len(polygons) > 1 else None
    return [_shape(item, group, "polygon", corners_of(polygon.exterior).tolist(), None) for polygon in polygons]


def _shape(
    item: FoundObject, group: int | None, kind: str, points: list[list[float]], mask: str | None
) -> dict[str, Any]:
    told = "" if item.predicted_iou is None else f"predicted IoU {item.predicted_iou:.3f}"
    return {
        "label": item.category,
        "points": points,
        "group_id": group,
        "description": told,
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }


def _png(mask: NDArray[np.bool_]) -> str:
    """A mask as the PNG in base64 that labelme keeps: one bit a pixel."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
