"""Non-maximum suppression of boxes, as `torchvision.ops.nms` does it: in float32, equal scores in the given order."""

from __future__ import annotations

import numpy as np

from ..contract import Float32, Int64


def distinct(boxes: Int64, scores: Float32, iou_threshold: float) -> Int64:
    """Indices of those of (N,4) boxes x0, y0, x1, y1 that overlap none of a higher score by more; the best first."""
    x0, y0, x1, y1 = boxes.astype(np.float32).T
    areas = (x1 - x0) * (y1 - y0)
    waiting = np.argsort(-scores, kind="stable")
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)
        width = np.minimum(x1[best], x1[waiting]) - np.maximum(x0[best], x0[waiting])
        height = np.minimum(y1[best], y1[waiting]) - np.maximum(y0[best], y0[waiting])
        shared = width.clip(0) * height.clip(0)
        with np.errstate(invalid="ignore"):  # boxes of a single pixel have no area, and suppress nothing
            overlap = shared / (areas[best] + areas[waiting] - shared)
        waiting = waiting[~(overlap.astype(np.float64) > iou_threshold)]
    return np.array(kept, np.int64)
