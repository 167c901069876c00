"""The file of one image: its masks in COCO's form, which COCO's tools read; complete under its name or not there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_json
from ..frames.image_files import write_png
from ..masks.overlay import draw_overlay
from ..masks.rle import decode_rle

_CATEGORY = {"id": 1, "name": "object"}


def write_masks(path: Path, file_name: str, original_hw: tuple[int, int], records: Sequence[dict[str, Any]]) -> None:
    """Write records of `MaskGenerator`, with run lengths, as the annotations of one image."""
    height, width = original_hw
    content = {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "annotations": [_annotation(number, record) for number, record in enumerate(records, 1)],
        "categories": [_CATEGORY],
    }
    write_json(path, content)


def write_failure(path: Path, file_name: str, message: str) -> None:
    """An image that cannot be segmented is named in its file, and tried again by the next run."""
    write_json(path, {"image": file_name, "error": message})


def is_done(path: Path) -> bool:
    """Whether the image's masks are there, so that an interrupted run goes on where it was."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "annotations" in content


def write_overlay(path: Path, image: NDArray[np.uint8], records: Sequence[dict[str, Any]]) -> None:
    """Write the image with the masks drawn over it, the smaller ones on top."""
    path.parent.mkdir(parents=True, exist_ok=True)
    largest_first = sorted(records, key=lambda record: -record["area"])
    masks: Iterator[NDArray[np.bool_]] = (decode_rle(record["segmentation"]) for record in largest_first)
    write_png(path, draw_overlay(image, masks))


def _annotation(number: int, record: dict[str, Any]) -> dict[str, Any]:
    told = {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in record.items()}
    return {"id": number, "image_id": 1, "category_id": _CATEGORY["id"], "iscrowd": 0, **told}
