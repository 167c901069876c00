"""What is done: one file per image, complete under its name or not there at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Array
from ..files import json_or_none, write_json
from ..formats.results import FoundObject, ImageResult
from ..masks.rle import encode_rle
from .jobs import REPORT, ImageJob


def result_path(output: Path, image: str) -> Path:
    return output / f"{image}.json"


def record_of(job: ImageJob, masks: Array, iou_predictions: Array) -> dict[str, Any]:
    """What is kept of an image: its prompts, (B,K,H,W) masks as COCO RLE and their (B,K) predicted IoU."""
    return {
        "image": job.image,
        "size": list(masks.shape[-2:]),
        **job.asked(),
        "masks": [[json.loads(encode_rle(mask)) for mask in candidates] for candidates in masks],
        "iou_predictions": iou_predictions.tolist(),
    }


def read_record(output: Path, job: ImageJob) -> dict[str, Any] | None:
    """What is kept of the image, if it answers these prompts: an interrupted run goes on where it was."""
    content = json_or_none(result_path(output, job.image))
    answered = isinstance(content, dict) and {name: content.get(name) for name in ("prompts", "objects")}
    return content if answered == {"objects": None, **job.asked()} and "size" in content else None


def result_of(record: Mapping[str, Any], file: Path) -> ImageResult:
    """A record as formats take it: of several candidates of an object, the one of the highest predicted IoU."""
    known: Sequence[Mapping[str, Any]] = record.get("objects") or [{}] * len(record["masks"])
    objects = []
    for candidates, scores, told in zip(record["masks"], record["iou_predictions"], known, strict=True):
        best = int(np.argmax(scores))
        iou = None if math.isnan(scores[best]) else scores[best]
        objects.append(FoundObject(rle=candidates[best], predicted_iou=iou, **told))
    height, width = record["size"]
    return ImageResult(record["image"], file, (height, width), objects)


def write_failure(output: Path, job: ImageJob, message: str) -> None:
    """An image that cannot be segmented is named in its file, and tried again by the next run."""
    write_json(result_path(output, job.image), {"image": job.image, "error": message})


def write_report(output: Path, report: Mapping[str, Any]) -> None:
    """How the last run went, for programs."""
    write_json(output / f"{REPORT}.json", report)
