"""labelme's files, a JSON for each image: polygons, rectangles, circles and painted masks."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, ImageError
from ..formats.coco_tables import Entry, read_json
from ..frames.image_files import WHITE, decode_image
from ..tables import shown
from .annotated import HW, AnnotatedDataset, image_folder_of
from .dataset import Skip, Unusable, require_same_size
from .metrics import Mask
from .segmentation import draw_outline, ellipse, read_points

_UNREADABLE = "annotation file unreadable"
_NO_AREA = "shape without area"


def is_labelme(content: object) -> bool:
    """Whether this is the content of one of its files."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def labelme_files(folder: Path) -> list[Path]:
    """The JSON files of a folder, if the first that can be read is labelme's; else none."""
    files = sorted(path for path in folder.glob("*.json") if path.is_file() and not path.name.startswith("."))
    for file in files:
        try:
            return files if is_labelme(read_json(file)) else []
        except DatasetError:
            continue
    return []


def open_labelme(
    path: Path, files: Iterable[Path], *, images: Path | None = None, white_point: int = WHITE
) -> AnnotatedDataset:
    """The images and shapes of `files`, which are `path` or in it; DatasetError if there are none.

    Images are found by `imagePath`, not in `imageData`. A target is the number of a shape in its file; shapes of one
    label and `group_id` are one object, numbered as the first of them.
    """
    entries: dict[str, Entry] = {}
    annotations: dict[str, dict[str, Entry]] = {}
    read, left_out = [], []
    for file in files:
        try:
            content = _content(file)
            name = content["imagePath"]
            if name in entries:
                raise Unusable("image annotated twice", f"{file}: for {name}, which another file is for")
        except Unusable as e:
            left_out.append(Skip(file.name, None, e.reason, e.detail))
            continue
        read.append(file)
        entries[name] = {"height": content.get("imageHeight"), "width": content.get("imageWidth")}
        annotations[name] = _objects(content["shapes"])
    if not read:
        raise DatasetError(f"{path}: no usable file of labelme in it; {left_out[0].detail}")
    return AnnotatedDataset(
        path=path,
        layout="labelme",
        files=read,
        image_folder=images or image_folder_of(read[0], list(entries)),
        images=entries,
        annotations=annotations,
        mask_of=_mask,
        left_out=left_out,
        white_point=white_point,
    )


def _content(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except DatasetError as e:
        raise Unusable(_UNREADABLE, str(e)) from e
    if not isinstance(content, dict) or not is_labelme(content):
        raise Unusable(_UNREADABLE, f"{file}: no file of labelme; expected shapes and imagePath")
    if not isinstance(content["shapes"], list) or not isinstance(content["imagePath"], str):
        raise Unusable(_UNREADABLE, f"{file}: expected a list of shapes, and text for imagePath")
    return content


def _objects(shapes: list[Any]) -> dict[str, Entry]:
    objects: dict[str, Any] = {}
    numbers: dict[str, str] = {}
    for number, shape in enumerate(shapes):
        group = shape.get("group_id") if isinstance(shape, dict) else None
        target = str(number)
        if group is not None:
            target = numbers.setdefault(repr((shape.get("label"), group)), target)
        objects.setdefault(target, {"shapes": []})["shapes"].append(shape)
    return objects


def _mask(entry: Entry, image_hw: HW) -> Mask:
    return np.logical_or.reduce([_drawn(shape, image_hw) for shape in entry["shapes"]])


def _drawn(shape: object, image_hw: HW) -> Mask:
    if not isinstance(shape, dict):
        raise Unusable(_NO_AREA, f"got {shown(shape)}, expected a shape")
    points, kind = read_points(shape.get("points"), image_hw), shape.get("shape_type") or "polygon"
    if kind in ("polygon", "oriented_rectangle"):
        return draw_outline(points, image_hw)
    if kind not in ("rectangle", "circle", "mask"):
        raise Unusable(_NO_AREA, f"got shape_type {shown(kind)}, expected polygon, rectangle, circle or mask")
    if len(points) != 2:
        raise Unusable(_NO_AREA, f"got {len(points)} points of a {kind}, expected 2")
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return draw_outline([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], image_hw)
    if kind == "circle":
        radius = math.hypot(x1 - x0, y1 - y0)
        return draw_outline(ellipse((x0, y0), (radius, radius)), image_hw)
    return _painted(shape.get("mask"), (int(x0), int(y0), int(x1), int(y1)), image_hw)


def _painted(encoded: object, box: tuple[int, int, int, int], image_hw: HW) -> Mask:
    """A PNG in base64, whose outermost pixels are those of `box`."""
    x0, y0, x1, y1 = box
    if not (0 <= x0 <= x1 < image_hw[1] and 0 <= y0 <= y1 < image_hw[0]) or not isinstance(encoded, str):
        raise Unusable(_NO_AREA, f"got a mask {shown(encoded)} at {box}, expected PNG in base64, in the image")
    try:
        part = decode_image(base64.b64decode(encoded), check_hw=lambda hw: _require_room(hw, image_hw))[..., 0] > 0
    except (ValueError, ImageError) as e:
        raise Unusable("mask unreadable", str(e)) from e
    except DatasetError as e:
        raise Unusable("mask of another size", str(e)) from e
    mask = np.zeros(image_hw, bool)
    require_same_size("mask of another size", "its box is", (y1 - y0 + 1, x1 - x0 + 1), part)
    mask[y0 : y1 + 1, x0 : x1 + 1] = part
    return mask


def _require_room(hw: HW, image_hw: HW) -> None:
    if hw[0] > image_hw[0] or hw[1] > image_hw[1]:
        raise DatasetError(f"got {hw[1]} x {hw[0]}, larger than the image")
