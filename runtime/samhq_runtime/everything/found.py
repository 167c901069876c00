"""The masks that were found so far, and what is told of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..contract import Array, Float32, Float64, Int64
from ..masks.rle import decode_rle, encode_counts
from ..masks.runs import Runs

BINARY_MASK, UNCOMPRESSED_RLE, COCO_RLE = OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """N masks of one image.

    Attributes:
        masks: of the image's size.
        boxes: (N,4) x0, y0, x1, y1, both ends inclusive.
        iou_predictions, stability_scores: (N,).
        points: (N,2) x, y of the prompts.
        crops: (N,4) x0, y0, x1, y1 of the crops they were found in.
    """

    masks: Sequence[Runs]
    boxes: Int64
    iou_predictions: Float32
    stability_scores: Float32
    points: Float64
    crops: Int64

    def __len__(self) -> int:
        return len(self.masks)

    def chosen(self, indices: Int64) -> Found:
        """Some of them, in this order."""
        arrays = {f.name: getattr(self, f.name)[indices] for f in fields(self) if f.name != "masks"}
        return Found(masks=[self.masks[index] for index in indices], **arrays)

    def record(self, index: int, output_mode: str) -> dict[str, Any]:
        """One mask, with the keys and in the units of the official packages."""
        mask = self.masks[index]
        return {
            "segmentation": _segmentation(mask, output_mode),
            "area": mask.area,
            "bbox": _xywh(self.boxes[index]),
            "predicted_iou": float(self.iou_predictions[index]),
            "point_coords": [self.points[index].tolist()],
            "stability_score": float(self.stability_scores[index]),
            "crop_box": _xywh(self.crops[index]),
        }


def joined(parts: Sequence[Found]) -> Found:
    """All of at least one."""
    arrays = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Found) if f.name != "masks"}
    return Found(masks=[mask for part in parts for mask in part.masks], **arrays)


def _xywh(xyxy: Array) -> list[int]:
    """Width and height as the official packages count them: from the first pixel to the last, which is one less."""
    x0, y0, x1, y1 = xyxy.tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def _segmentation(mask: Runs, output_mode: str) -> Any:
    counts = mask.counts()
    if output_mode == COCO_RLE:
        return {"size": list(mask.hw), "counts": encode_counts(counts)}
    rle = {"size": list(mask.hw), "counts": counts.tolist()}
    return rle if output_mode == UNCOMPRESSED_RLE else decode_rle(rle)
