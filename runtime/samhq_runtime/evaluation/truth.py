"""Prompts derived from ground truth, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..contract import Float64
from ..masks.box import box_of, extent
from .dataset import Sample, Unusable
from .metrics import Mask, erode

PROMPTS = ("box", "point", "bbox")


@dataclass(frozen=True)
class Truth:
    """One object: its mask (H,W), not empty, and the prompt that asks for it (x0, y0, x1, y1 or x, y)."""

    target: str
    mask: Mask
    prompt: Float64


def read_truth(sample: Sample, target: str, kind: str) -> Truth:
    """Unusable if the object has no mask, or not the box that `kind` asks for."""
    mask = sample.read_mask(target)
    if not mask.any():
        raise Unusable("empty mask")
    prompts = {
        "box": lambda: np.array(box_of(mask), dtype=np.float64),
        "point": lambda: deepest_point(mask),
        "bbox": lambda: sample.read_box(target),
    }
    return Truth(target, mask, prompts[kind]())


def prompt_arguments(kind: str, truths: Sequence[Truth]) -> dict[str, NDArray]:
    """Arguments of `Predictor.predict` for B objects: a box or a point for each."""
    prompts = np.stack([truth.prompt for truth in truths])
    if kind != "point":
        return {"box": prompts}
    return {"point_coords": prompts[:, None], "point_labels": np.ones((len(truths), 1))}


def deepest_point(mask: Mask) -> Float64:
    """x, y of a pixel of the mask that is as many rows and columns from its outside as any.

    It is the centre of the largest square that fits in the mask. Of several, the one nearest to the middle of them
    all, then the first in reading order.
    """
    window = extent(mask)
    deepest = _largest_squares(mask[window])
    rows, columns = np.nonzero(deepest)
    distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    best = int(distance.round(6).argmin())  # rounded: ties must not hang on the last bit of a mean
    return np.array([window[1].start + columns[best], window[0].start + rows[best]], dtype=np.float64)


def _largest_squares(mask: Mask) -> Mask:
    """Centres of the largest odd squares in a mask that is not empty, found by bisection over their radius."""
    low, high, centres = 0, min(mask.shape) // 2 + 1, mask  # radius `low` fits, `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        eroded = erode(mask, middle)
        if eroded.any():
            low, centres = middle, eroded
        else:
            high = middle
    return centres
