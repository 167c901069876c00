"""COCO-format instance annotations: polygons and run lengths, checked before they are trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..frames.image_files import WHITE
from .annotated import HW, AnnotatedDataset, Entry, image_folder_of
from .dataset import Box, Skip, Unusable
from .metrics import Mask
from .segmentation import decode_segmentation, shown

_BAD_BOX = "box not usable"
_NO_CROWD = ("", "0", "0.0", "false", "none")  # tools write numbers, booleans, text and null


def open_coco(
    path: Path,
    content: object,
    *,
    images: Path | None = None,
    include_crowd: bool = False,
    white_point: int = WHITE,
) -> AnnotatedDataset:
    """Check the content of an annotation file, COCO's or LVIS's; DatasetError if its structure is not theirs.

    A target is the id of an annotation. Crowd regions (`iscrowd`) are left out unless `include_crowd`: they outline
    groups, and a box or a point asks for one object. CVAT writes `iscrowd: 1` for every mask that was painted.
    """
    image_entries = [_named(entry) for entry in _entries(path, content, "images", ("id",))]
    _require(path, "images", image_entries, ("file_name",))
    annotation_entries = _entries(path, content, "annotations", ("id", "image_id"))
    if not image_entries or not annotation_entries:
        raise DatasetError(f"{path}: {len(image_entries)} images and {len(annotation_entries)} annotations in it")
    by_name = _unique(path, "file_name", image_entries, "file_name")
    names = {key: entry["file_name"] for key, entry in _unique(path, "image id", image_entries, "id").items()}
    by_id, notices = _renumbered(annotation_entries)
    annotations, left_out = _by_image(by_id, names)
    return AnnotatedDataset(
        path=path,
        layout="COCO",
        files=(path,),
        image_folder=images or image_folder_of(path, list(by_name)),
        images=by_name,
        annotations=annotations,
        mask_of=partial(_mask, include_crowd=include_crowd),
        stated_box_of=_prompt_box,
        left_out=left_out,
        notices=notices,
        white_point=white_point,
        asked=b"with crowd regions" if include_crowd else b"",
    )


def _by_image(by_id: Mapping[str, Entry], names: Mapping[str, str]) -> tuple[dict[str, dict[str, Entry]], list[Skip]]:
    """Annotations by the name of their image, then by id; and those of images that the file does not have."""
    annotations: dict[str, dict[str, Entry]] = {}
    left_out = []
    for key, entry in by_id.items():
        name = names.get(str(entry["image_id"]))
        if name is None:
            detail = f"annotation {key} is for image {entry['image_id']}, which is not in the file"
            left_out.append(Skip(f"image id {entry['image_id']}", key, "annotation of an unknown image", detail))
        else:
            annotations.setdefault(name, {})[key] = entry
    return annotations, left_out


def _mask(annotation: Entry, image_hw: HW, *, include_crowd: bool) -> Mask:
    if not include_crowd and _is_crowd(annotation.get("iscrowd")):
        raise Unusable("crowd region", f"annotation {annotation['id']} has iscrowd 1; --include-crowd takes it in")
    return decode_segmentation(annotation.get("segmentation"), image_hw)


def _named(entry: Entry) -> Entry:
    """LVIS names an image by `coco_url` alone: its folder and file are the end of that."""
    url = entry.get("coco_url")
    if "file_name" in entry or not isinstance(url, str):
        return entry
    return {**entry, "file_name": "/".join(url.split("/")[-2:])}


def _is_crowd(value: object) -> bool:
    return str(value).strip().lower() not in _NO_CROWD


def _renumbered(entries: Sequence[Entry]) -> tuple[dict[str, Entry], list[str]]:
    """Annotations by id; where an id occurs again, the annotation gets the next number that is free."""
    by_id: dict[str, Entry] = {}
    again = []
    for entry in entries:
        if str(entry["id"]) in by_id:
            again.append(entry)
        else:
            by_id[str(entry["id"])] = entry
    first = max((entry["id"] for entry in entries if type(entry["id"]) is int), default=0) + 1
    for number, entry in enumerate(again, first):
        by_id[str(number)] = entry
    if not again:
        return by_id, []
    ids = f"{first} to {first + len(again) - 1}"
    return by_id, [
        f"{len(again)} annotations have the id of another, such as {again[0]['id']}; they count as {ids} here"
    ]


def _prompt_box(annotation: Entry, image_hw: HW) -> Box:
    """COCO's x, y, width, height, from edge to edge, as x0, y0, x1, y1 of the outermost pixels (see `box_of`)."""
    bbox = annotation.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(type(value) in (int, float) for value in bbox):
        raise Unusable(_BAD_BOX, f"got {shown(bbox)}, expected x, y, width, height")
    x, y, width, height = bbox
    if not (width > 0 and height > 0):  # NaN too
        raise Unusable(_BAD_BOX, f"got {shown(bbox)}, without area")
    if not (x >= -1 and x + width <= image_hw[1] + 1 and y >= -1 and y + height <= image_hw[0] + 1):
        raise Unusable(_BAD_BOX, f"got {shown(bbox)}, beyond the {image_hw[1]} x {image_hw[0]} image")
    return np.array([x, y, max(x, x + width - 1), max(y, y + height - 1)], dtype=np.float64)


def _entries(path: Path, content: object, key: str, required: Sequence[str]) -> list[Entry]:
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


def _unique(path: Path, what: str, entries: Sequence[Entry], key: str) -> dict[str, Entry]:
    unique: dict[str, Entry] = {}
    for entry in entries:
        if str(entry[key]) in unique:
            raise DatasetError(f"{path}: {what} {entry[key]} occurs twice; each must be unique")
        unique[str(entry[key])] = entry
    return unique
