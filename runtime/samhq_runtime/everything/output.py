"""The file of one image: its masks in COCO's form, which COCO's tools read; complete under its name or not there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import json_or_none, write_json
from ..formats.results import CATEGORY, FoundObject, ImageResult

_CATEGORY = {"id": 1, "name": CATEGORY}


def masks_of(file_name: str, original_hw: tuple[int, int], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Records of `MaskGenerator`, with run lengths, as the annotations of one image."""
    height, width = original_hw
    return {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "annotations": [_annotation(number, record) for number, record in enumerate(records, 1)],
        "categories": [_CATEGORY],
    }


def write_failure(path: Path, file_name: str, message: str) -> None:
    """An image that cannot be segmented is named in its file, and tried again by the next run."""
    write_json(path, {"image": file_name, "error": message})


def read_masks(path: Path) -> dict[str, Any] | None:
    """What is kept of an image, if it is there: an interrupted run goes on where it was."""
    content = json_or_none(path)
    return content if isinstance(content, dict) and "annotations" in content else None


def result_of(content: Mapping[str, Any], file: Path) -> ImageResult:
    """The content of an image's file as other formats take it; `file` is the image."""
    (image,) = content["images"]
    objects = [
        FoundObject(rle=annotation["segmentation"], predicted_iou=annotation["predicted_iou"])
        for annotation in content["annotations"]
    ]
    return ImageResult(image["file_name"], file, (image["height"], image["width"]), objects)


def _annotation(number: int, record: dict[str, Any]) -> dict[str, Any]:
    told = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}
    return {"id": number, "image_id": 1, "category_id": _CATEGORY["id"], "iscrowd": 0, **told}
