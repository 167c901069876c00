"""COCO-format instance annotations: polygons and run lengths, checked before they are trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from ..file_kinds import kind_of
from ..frames.image_files import WHITE
from ..frames.image_names import best_folder, image_file, unique_last_parts
from .dataset import Box, Sample, Skip, Unusable, fingerprint_of, read_sample_image, require_same_size
from .metrics import Mask
from .segmentation import decode_segmentation, shown

Entry = Mapping[str, Any]

_BAD_BOX = "box not usable"
_SIZES = ("height", "width")
_MOST = 2**31
_NO_CROWD = ("", "0", "0.0", "false", "none")  # tools write numbers, booleans, text and null


@dataclass(frozen=True)
class CocoDataset:
    """Images in the order of the file; a target is the id of an annotation.

    Crowd regions (`iscrowd`) are left out unless `include_crowd`: they outline groups, and a box or a point asks for
    one object. CVAT writes `iscrowd: 1` for every mask that was painted.
    """

    path: Path
    image_folder: Path
    images: Mapping[str, Entry]  # by file name
    annotations: Mapping[str, Mapping[str, Entry]]  # by file name, then annotation id
    left_out: Sequence[Skip]
    notices: Sequence[str] = ()
    include_crowd: bool = False
    white_point: int = WHITE
    layout: str = "COCO"

    @property
    def names(self) -> Sequence[str]:
        return list(self.images)

    def fingerprint(self) -> str:
        asked = b"with crowd regions" if self.include_crowd else b""
        files = (self._file(name) for name in self.images)
        return fingerprint_of(files, self.white_point, self.path.read_bytes() + asked)

    def read(self, name: str) -> Sample:
        annotations = self.annotations.get(name)
        if not annotations:
            raise Unusable("no annotation for the image")
        entry, image = self.images[name], read_sample_image(self._file(name), self.white_point)
        stated = tuple(_size(entry.get(key)) or size for key, size in zip(_SIZES, image.shape[:2], strict=True))
        require_same_size("image of another size than annotated", "annotations are for", stated, image)

        def read_mask(target: str) -> Mask:
            annotation = annotations[target]
            if not self.include_crowd and _is_crowd(annotation.get("iscrowd")):
                raise Unusable("crowd region", f"annotation {target} has iscrowd 1; --include-crowd takes it in")
            return decode_segmentation(annotation.get("segmentation"), (image.shape[0], image.shape[1]))

        def read_box(target: str) -> Box:
            return _prompt_box(annotations[target].get("bbox"), (image.shape[0], image.shape[1]))

        return Sample(image, list(annotations), read_mask, read_box)

    def _file(self, name: str) -> Path:
        return image_file(self.image_folder, name, last_part_alone=name in self._unique)

    @cached_property
    def _unique(self) -> set[str]:
        return unique_last_parts(self.images)


def open_coco(
    path: Path, *, images: Path | None = None, include_crowd: bool = False, white_point: int = WHITE
) -> CocoDataset:
    """Read and check an annotation file, COCO's or LVIS's; DatasetError if its structure is not theirs."""
    if images is not None and not images.is_dir():
        raise DatasetError(f"{images}: no such folder of images")
    content = _content(path)
    image_entries = [_named(entry) for entry in _entries(path, content, "images", ("id",))]
    _require(path, "images", image_entries, ("file_name",))
    annotation_entries = _entries(path, content, "annotations", ("id", "image_id"))
    if not image_entries or not annotation_entries:
        raise DatasetError(f"{path}: {len(image_entries)} images and {len(annotation_entries)} annotations in it")
    by_name = _unique(path, "file_name", image_entries, "file_name")
    names = {key: entry["file_name"] for key, entry in _unique(path, "image id", image_entries, "id").items()}
    annotations: dict[str, dict[str, Entry]] = {}
    left_out = []
    by_id, notices = _renumbered(annotation_entries)
    for key, entry in by_id.items():
        name = names.get(str(entry["image_id"]))
        if name is None:
            detail = f"annotation {key} is for image {entry['image_id']}, which is not in the file"
            left_out.append(Skip(f"image id {entry['image_id']}", key, "annotation of an unknown image", detail))
        else:
            annotations.setdefault(name, {})[key] = entry
    folder = images or _find_images(path, list(by_name))
    return CocoDataset(path, folder, by_name, annotations, left_out, notices, include_crowd, white_point)


def _content(path: Path) -> object:
    try:
        content: object = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{path}: not JSON ({kind_of(path) or e}); expected COCO-format annotations") from e
    if isinstance(content, dict) and "shapes" in content and "imagePath" in content:
        raise DatasetError(
            f"{path}: labelme's file of one image; convert the folder to COCO (labelme2coco) and give that"
        )
    if isinstance(content, list) and content and isinstance(content[0], dict) and "data" in content[0]:
        raise DatasetError(f"{path}: Label Studio's own JSON; export the project as COCO and give that")
    return content


def _named(entry: Entry) -> Entry:
    """LVIS names an image by `coco_url` alone: its folder and file are the end of that."""
    url = entry.get("coco_url")
    if "file_name" in entry or not isinstance(url, str):
        return entry
    return {**entry, "file_name": "/".join(url.split("/")[-2:])}


def _size(stated: object) -> int | None:
    """A width or height; None where it is unknown: null, 0, text, as some tools write."""
    return int(stated) if type(stated) in (int, float) and 0 < stated < _MOST else None  # type: ignore[operator,call-overload]


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


def _prompt_box(bbox: object, image_hw: tuple[int, int]) -> Box:
    """COCO's x, y, width, height, from edge to edge, as x0, y0, x1, y1 of the outermost pixels (see `box_of`)."""
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


def _find_images(path: Path, names: Sequence[str]) -> Path:
    """Where most of the images are: beside the file, or in the folder that COCO's own layout gives them."""
    split = path.stem.partition("_")[2] or path.stem
    folders = [path.parent, path.parent / "images", path.parent / split, path.parent.parent / split]
    folders += [path.parent.parent / "images", path.parent.parent / "images" / split]
    unique = unique_last_parts(names)
    best = best_folder(folders, names, lambda folder, name: image_file(folder, name, last_part_alone=name in unique))
    if best is not None:
        return best
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    raise DatasetError(
        f"{path}: none of its {len(names)} images, such as {names[0]}, is in any of {looked}; give --images FOLDER"
    )
