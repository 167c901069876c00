"""COCO-format instance annotations: polygons and run lengths, checked before they are trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError
from .dataset import Box, Sample, Skip, Unusable, fingerprint_of, read_sample_image, require_same_size
from .metrics import Mask
from .segmentation import decode_segmentation, shown

Entry = Mapping[str, Any]

_BAD_BOX = "box not usable"


@dataclass(frozen=True)
class CocoDataset:
    """Images in the order of the file; a target is the id of an annotation.

    Crowd regions (`iscrowd`) are left out: they outline groups, and a box or a point asks for one object.
    """

    path: Path
    image_folder: Path
    images: Mapping[str, Entry]  # by file name
    annotations: Mapping[str, Mapping[str, Entry]]  # by file name, then annotation id
    left_out: Sequence[Skip]
    layout: str = "COCO"

    @property
    def names(self) -> Sequence[str]:
        return list(self.images)

    def fingerprint(self) -> str:
        return fingerprint_of((self.image_folder / name for name in self.images), self.path.read_bytes())

    def read(self, name: str) -> Sample:
        annotations = self.annotations.get(name)
        if not annotations:
            raise Unusable("no annotation for the image")
        entry, image = self.images[name], read_sample_image(self.image_folder / name)
        stated = tuple(entry.get(key, size) for key, size in zip(("height", "width"), image.shape[:2], strict=True))
        require_same_size("image of another size than annotated", "annotations are for", stated, image)

        def read_mask(target: str) -> Mask:
            annotation = annotations[target]
            if annotation.get("iscrowd"):
                raise Unusable("crowd region")
            return decode_segmentation(annotation.get("segmentation"), (image.shape[0], image.shape[1]))

        def read_box(target: str) -> Box:
            return _prompt_box(annotations[target].get("bbox"), (image.shape[0], image.shape[1]))

        return Sample(image, list(annotations), read_mask, read_box)


def open_coco(path: Path, *, images: Path | None = None) -> CocoDataset:
    """Read and check an annotation file; DatasetError if its structure is not COCO's."""
    if images is not None and not images.is_dir():
        raise DatasetError(f"{images}: no such folder of images")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise DatasetError(f"{path}: not JSON ({e}); expected COCO-format annotations") from e
    image_entries = _entries(path, content, "images", ("id", "file_name"))
    annotation_entries = _entries(path, content, "annotations", ("id", "image_id"))
    if not image_entries or not annotation_entries:
        raise DatasetError(f"{path}: {len(image_entries)} images and {len(annotation_entries)} annotations in it")
    by_name = _unique(path, "file_name", image_entries, "file_name")
    names = {key: entry["file_name"] for key, entry in _unique(path, "image id", image_entries, "id").items()}
    annotations: dict[str, dict[str, Entry]] = {}
    left_out = []
    for key, entry in _unique(path, "annotation id", annotation_entries, "id").items():
        name = names.get(str(entry["image_id"]))
        if name is None:
            detail = f"annotation {key} is for image {entry['image_id']}, which is not in the file"
            left_out.append(Skip(f"image id {entry['image_id']}", key, "annotation of an unknown image", detail))
        else:
            annotations.setdefault(name, {})[key] = entry
    return CocoDataset(path, images or _find_images(path, next(iter(by_name))), by_name, annotations, left_out)


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
    for index, entry in enumerate(found):
        missing = [name for name in required if not isinstance(entry, dict) or name not in entry]
        if missing:
            raise DatasetError(f"{path}: {key}[{index}] has no {' and no '.join(missing)}")
        if not isinstance(entry.get("file_name", ""), str):
            raise DatasetError(f"{path}: {key}[{index}].file_name is {entry['file_name']!r}, expected a string")
    return found


def _unique(path: Path, what: str, entries: Sequence[Entry], key: str) -> dict[str, Entry]:
    unique: dict[str, Entry] = {}
    for entry in entries:
        if str(entry[key]) in unique:
            raise DatasetError(f"{path}: {what} {entry[key]} occurs twice; each must be unique")
        unique[str(entry[key])] = entry
    return unique


def _find_images(path: Path, first: str) -> Path:
    """Where the first image is: beside the file, or in the folder that COCO's own layout gives it."""
    split = path.stem.partition("_")[2] or path.stem
    folders = [path.parent, path.parent / "images", path.parent / split, path.parent.parent / split]
    folders += [path.parent.parent / "images", path.parent.parent / "images" / split]
    for folder in folders:
        if (folder / first).is_file():
            return folder
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    raise DatasetError(f"{path}: its first image {first} is in none of {looked}; give --images FOLDER")
