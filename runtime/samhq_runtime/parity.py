"""How close results are to a reference: the measures of every parity gate, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contract import Array

_ROUNDING = 1e-5  # of the range of the logits


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest admissible differences; `relative` is the maximum absolute error over the reference's range."""

    relative: float
    iou: float


def mask_overlap(logits: Array, reference: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels in both masks and in either of two sets of logits (..., H, W), counted over the last two axes.

    Pixels whose reference logit is zero but for rounding belong to neither mask: no float32 arithmetic can call them.
    """
    undecided = np.abs(reference) <= _ROUNDING * np.ptp(reference)
    a, b = (logits > 0) & ~undecided, (reference > 0) & ~undecided
    return (a & b).sum(axis=(-2, -1)), (a | b).sum(axis=(-2, -1))


def mask_iou(logits: Array, reference: Array) -> NDArray[np.float64]:
    """IoU of the masks of two sets of logits over the last two axes; two empty masks agree."""
    both, either = mask_overlap(logits, reference)
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def relative_error(got: Array, reference: Array) -> float:
    """Largest absolute error over the reference's range; NaN if either has one."""
    difference = np.abs(got.astype(np.float32) - reference.astype(np.float32))
    return float(difference.max()) / (float(np.ptp(reference.astype(np.float32))) or 1.0)
