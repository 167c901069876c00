"""COCO-format instance annotations: polygons and run lengths, checked before they are trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DatasetError
from ..formats.coco_tables import Entry, box_of_bbox, entries_of, image_table, is_crowd, unique
from ..frames.image_files import WHITE
from ..tables import shown
from .annotated import HW, AnnotatedDataset, image_folder_of
from .dataset import Box, Skip, Unusable
from .metrics import Mask
from .segmentation import decode_segmentation

_BAD_BOX = "box not usable"


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
    image_entries = image_table(path, content)
    annotation_entries = entries_of(path, content, "annotations", ("id", "image_id"))
    if not image_entries or not annotation_entries:
        raise DatasetError(f"{path}: {len(image_entries)} images and {len(annotation_entries)} annotations in it")
    by_name = unique(path, "file_name", image_entries, "file_name")
    names = {key: entry["file_name"] for key, entry in unique(path, "image id", image_entries, "id").items()}
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
    if not include_crowd and is_crowd(annotation.get("iscrowd")):
        raise Unusable("crowd region", f"annotation {annotation['id']} has iscrowd 1; --include-crowd takes it in")
    return decode_segmentation(annotation.get("segmentation"), image_hw)


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
    try:
        box = box_of_bbox(bbox)
    except ValueError as e:
        raise Unusable(_BAD_BOX, str(e)) from e
    x0, y0, x1, y1 = box
    if not (x0 >= -1 and x1 <= image_hw[1] and y0 >= -1 and y1 <= image_hw[0]):
        raise Unusable(_BAD_BOX, f"got {shown(bbox)}, beyond the {image_hw[1]} x {image_hw[0]} image")
    return np.array(box, dtype=np.float64)
