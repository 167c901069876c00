"""What is done: one file per image, complete under its name or not there at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..contract import Array
from ..errors import ConfigError
from ..files import write_json
from ..masks.rle import encode_rle
from .jobs import RESERVED, ImageJob

_SETTINGS = f"{RESERVED[0]}.json"


def result_path(output: Path, image: str) -> Path:
    return output / f"{image}.json"


def is_done(output: Path, job: ImageJob) -> bool:
    """Whether the image's file is there and answers these prompts, so that an interrupted run goes on where it was."""
    try:
        content = json.loads(result_path(output, job.image).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("prompts") == dict(job.prompts)


def write_result(output: Path, job: ImageJob, masks: Array, iou_predictions: Array) -> None:
    """Write (B,K,H,W) masks as COCO RLE and their (B,K) predicted IoU. Renamed into place: written twice, it is one."""
    path = result_path(output, job.image)
    content = {
        "image": job.image,
        "prompts": job.prompts,
        "masks": [[json.loads(encode_rle(mask)) for mask in candidates] for candidates in masks],
        "iou_predictions": iou_predictions.tolist(),
    }
    write_json(path, content)


def write_failure(output: Path, job: ImageJob, message: str) -> None:
    """An image that cannot be segmented is named in its file, and tried again by the next run."""
    write_json(result_path(output, job.image), {"image": job.image, "error": message})


def require_settings(output: Path, settings: dict[str, Any]) -> None:
    """Results of different bundles or options do not mix.

    Raises:
        ConfigError: the folder has results of others, or cannot be written.
    """
    path = output / _SETTINGS
    try:
        if not path.exists():
            write_json(path, settings)
            return
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{output}: cannot be written ({e.strerror or e}); choose another --output") from e
    except ValueError as e:
        raise ConfigError(f"{path}: damaged ({e}); remove it if all results are of these settings") from e
    if found != settings:
        raise ConfigError(f"{output}: has results of other settings ({found}); choose another --output")
