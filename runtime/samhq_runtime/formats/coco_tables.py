"""COCO files as they are found: tables of images, annotations and categories, checked before they are trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from ..file_kinds import kind_of
from ..tables import shown

Entry = Mapping[str, Any]

_NO_CROWD = ("", "0", "0.0", "false", "none")  # tools write numbers, booleans, text and null


def read_json(path: Path) -> object:
    """The content of an annotation file; DatasetError if it is no JSON."""
    try:
        content: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise DatasetError(f"{path}: not JSON ({kind_of(path) or e}); expected COCO-format annotations") from e
    return content


def image_table(path: Path, content: object) -> list[Entry]:
    """The images of a file, COCO's or LVIS's, each with `id` and `file_name`; DatasetError if they lack one."""
    images = [_named(entry) for entry in entries_of(path, content, "images", ("id",))]
    _require(path, "images", images, ("file_name",))
    return images


def is_crowd(value: object) -> bool:
    """Whether an annotation outlines a group, from its `iscrowd`."""
    return str(value).strip().lower() not in _NO_CROWD


def box_of_bbox(bbox: object) -> list[float]:
    """COCO's x, y, width, height, from edge to edge, as x0, y0, x1, y1 of the outermost pixels (see `masks.box`).

    Raises:
        ValueError: other than four numbers, or without area.
    """
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(type(value) in (int, float) for value in bbox):
        raise ValueError(f"got {shown(bbox)}, expected x, y, width, height")
    x, y, width, height = bbox
    if not (width > 0 and height > 0):  # NaN too
        raise ValueError(f"got {shown(bbox)}, without area")
    return [x, y, max(x, x + width - 1), max(y, y + height - 1)]


def entries_of(path: Path, content: object, key: str, required: Sequence[str]) -> list[Entry]:
    """A table of a file, whose entries have at least `required`; DatasetError otherwise."""
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise DatasetError(f"{path}: no list {key!r} in it; expected COCO-format instance annotations")
    _require(path, key, found, required)
    return found


def _require(path: Path, key: str, entries: Sequence[object], required: Sequence[str]) -> None:
    for index, entry in enumerate(entries):
        missing = [name for name in required if not isinstance(entry, dict) or name not in entry]
        if missing or not isinstance(entry, dict):
            raise DatasetError(f"{path}: {key}[{index}] has no {' and no '.join(missing)}")
        if not isinstance(entry.get("file_name", ""), str):
            raise DatasetError(f"{path}: {key}[{index}].file_name is {entry['file_name']!r}, expected a string")


def unique(path: Path, what: str, entries: Sequence[Entry], key: str) -> dict[str, Entry]:
    """Entries by the text of one of their values; DatasetError if one occurs twice."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if str(entry[key]) in found:
            raise DatasetError(f"{path}: {what} {entry[key]} occurs twice; each must be unique")
        found[str(entry[key])] = entry
    return found


def _named(entry: Entry) -> Entry:
    """LVIS names an image by `coco_url` alone: its folder and file are the end of that."""
    url = entry.get("coco_url")
    if "file_name" in entry or not isinstance(url, str):
        return entry
    return {**entry, "file_name": "/".join(url.split("/")[-2:])}
