"""Every mask in the picture: what the generators of both sides are asked, and how their records are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samhq_runtime.evaluation.metrics import iou
from samhq_runtime.masks.rle import decode_rle

from .scene import Scene

Records = Sequence[Mapping[str, Any]]


def options_of(scene: Scene) -> dict[str, Any]:
    """Parameters of the generators, which the parent left in the scene's folder."""
    return json.loads((scene.folder / "everything.json").read_text())


def agreement(ours: Records, theirs: Records) -> dict[str, Any]:
    """Numbers of masks, how many are in the same place of both, with the same point and crop, and their least IoU."""
    pairs = list(zip(ours, theirs, strict=False))
    ious = [iou(decode_rle(a["segmentation"]), decode_rle(b["segmentation"])) for a, b in pairs]
    placed = sum(list(a) == list(b) and all(a[k] == b[k] for k in ("point_coords", "crop_box")) for a, b in pairs)
    boxes = [np.abs(np.subtract(a["bbox"], b["bbox"])).max() for a, b in pairs]
    scores = [abs(a[k] - b[k]) for a, b in pairs for k in ("predicted_iou", "stability_score")]
    return {
        "masks": [len(ours), len(theirs)],
        "same_place": placed,
        "least_iou": min(ious, default=1.0),
        "box_pixels_off": float(max(boxes, default=0)),
        "scores_off": float(max(scores, default=0)),
    }
