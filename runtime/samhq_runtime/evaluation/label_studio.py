"""Label Studio's own JSON export: rectangles, ellipses, polygons and brush masks, in percent of the image."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ..errors import DatasetError
from ..formats.coco_tables import Entry
from ..frames.image_files import WHITE
from ..frames.image_names import image_file, is_file
from ..masks.brush import unpack_brush
from ..tables import shown
from .annotated import HW, AnnotatedDataset, image_folder_of
from .dataset import Skip, Unusable
from .metrics import Mask
from .segmentation import draw_outline, ellipse, read_points

_PERCENT = (100, 100)
_DRAWN = ("rectangle", "ellipse", "polygon", "brush")
_NOT_READ = "region not read"
_UPLOAD = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]+$)")  # what it puts before the name of an uploaded file
_HALF = 128
_MIN = ("annotator", "annotation_id")


def is_label_studio(content: object) -> bool:
    """Whether this is its JSON; DatasetError for its smaller form, which lacks what is needed."""
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict) and "data" not in first and any(key in first for key in _MIN):
        raise DatasetError("Label Studio's JSON-MIN; export the project as JSON and give that")
    return isinstance(first, dict) and "data" in first


def open_label_studio(
    path: Path, tasks: Sequence[Any], *, images: Path | None = None, white_point: int = WHITE
) -> AnnotatedDataset:
    """The images and regions of its tasks; DatasetError if there are none.

    Of several annotations of a task the newest counts, of those that were not cancelled; predictions do not. A target
    is the id of a region.
    """
    found: dict[str, Mapping[str, Any]] = {}
    left_out = []
    for number, task in enumerate(tasks):
        label = f"task {task.get('id', number) if isinstance(task, dict) else number}"
        name = _image_of(task)
        if name is None or name in found:
            reason = "no image in the task" if name is None else "image annotated twice"
            left_out.append(Skip(name or label, None, reason, f"{label}: {reason}"))
            continue
        found[name], others = _newest(task)
        left_out += [Skip(name, f"annotation {o.get('id')}", "an older annotation of the task", label) for o in others]
    if not found:
        raise DatasetError(f"{path}: {len(tasks)} tasks of Label Studio, none with an image")
    uploaded = {name: _UPLOAD.sub(r"\1", name) for name in found}
    folder = images or image_folder_of(path, list(found), list(uploaded.values()))
    names = {name: name if _is_there(folder, name) else other for name, other in uploaded.items()}
    regions = {names[name]: _regions(annotation.get("result")) for name, annotation in found.items()}
    return AnnotatedDataset(
        path=path,
        layout="Label Studio",
        files=(path,),
        image_folder=folder,
        images={name: _size_of(targets) for name, targets in regions.items()},
        annotations=regions,
        mask_of=_mask,
        left_out=left_out,
        white_point=white_point,
    )


def _image_of(task: object) -> str | None:
    """The name in the address of a task's image: `image`, or the only text of its data."""
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return None
    texts = [value for value in data.values() if isinstance(value, str)]
    address = data.get("image", texts[0] if len(texts) == 1 else None)
    if not isinstance(address, str) or not address:
        return None
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    local = parse_qs(parts.query).get("d")  # /data/local-files/?d=folder/x.png
    return local[0] if local else unquote(parts.path) or None


def _is_there(folder: Path, name: str) -> bool:
    return is_file(image_file(folder, name, last_part_alone=True))


def _newest(task: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """The annotation that counts, and the others."""
    given = task.get("annotations")
    kept: list[Mapping[str, Any]] = [a for a in given if isinstance(a, dict)] if isinstance(given, list) else []
    kept = [a for a in kept if not (a.get("was_cancelled") or a.get("skipped"))]
    *older, newest = sorted(kept, key=lambda a: str(a.get("created_at", ""))) or [{}]
    return newest, older


def _regions(results: object) -> dict[str, Entry]:
    """By id; what marks no place in the image, such as choices and relations, is none."""
    regions: dict[str, Entry] = {}
    for number, result in enumerate(results if isinstance(results, list) else ()):
        if not isinstance(result, dict) or "original_width" not in result or not isinstance(result.get("value"), dict):
            continue
        target = str(result.get("id", number))
        if target not in regions or _kind(regions[target]) not in _DRAWN:  # labels have a result of their own
            regions[target] = result
    return regions


def _size_of(regions: Mapping[str, Entry]) -> Entry:
    first: Entry = next(iter(regions.values()), {})
    return {"height": first.get("original_height"), "width": first.get("original_width")}


def _kind(region: Entry) -> str:
    return str(region.get("type", "")).removesuffix("labels")


def _mask(region: Entry, image_hw: HW) -> Mask:
    value, kind = region["value"], _kind(region)
    if region.get("image_rotation"):
        raise Unusable(_NOT_READ, f"the image was turned by {shown(region['image_rotation'])} degrees in the editor")
    if kind == "brush":
        return _painted(value, image_hw)
    scale = (image_hw[1] / 100, image_hw[0] / 100)
    if kind == "polygon":
        points = read_points(value.get("points"), _PERCENT)
        return draw_outline(((x * scale[0], y * scale[1]) for x, y in points), image_hw)
    if kind not in _DRAWN:
        raise Unusable(_NOT_READ, f"got type {shown(region.get('type'))}, expected one of {', '.join(_DRAWN)}")
    sides = ("width", "height") if kind == "rectangle" else ("radiusX", "radiusY")
    numbers = [[value.get("x"), value.get("y")], [value.get(side) for side in sides], [value.get("rotation", 0), 0]]
    (x, y), (width, height), (degrees, _) = read_points(numbers, _PERCENT)
    start, size, angle = (x * scale[0], y * scale[1]), (width * scale[0], height * scale[1]), math.radians(degrees)
    if kind == "ellipse":
        return draw_outline(ellipse(start, size, angle), image_hw)
    return draw_outline(_turned_rectangle(start, size, angle), image_hw)


def _turned_rectangle(
    corner: tuple[float, float], size: tuple[float, float], angle: float
) -> list[tuple[float, float]]:
    """Corners of a rectangle that is turned clockwise around its first one."""
    along = (size[0] * math.cos(angle), size[0] * math.sin(angle))
    down = (-size[1] * math.sin(angle), size[1] * math.cos(angle))
    steps = ((0, 0), (1, 0), (1, 1), (0, 1))
    return [(corner[0] + a * along[0] + d * down[0], corner[1] + a * along[1] + d * down[1]) for a, d in steps]


def _painted(value: Mapping[str, Any], image_hw: HW) -> Mask:
    """More than half opaque."""
    runs = value.get("rle")
    try:
        if not isinstance(runs, list):
            raise TypeError(f"got {shown(runs)}, expected a list of bytes")
        values = unpack_brush(bytes(runs), 4 * image_hw[0] * image_hw[1])
    except (ValueError, TypeError) as e:
        raise Unusable("mask unreadable", f"brush: {e}") from e
    return np.asarray(values.reshape(*image_hw, 4)[..., 3] >= _HALF)
