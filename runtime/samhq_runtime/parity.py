"""How close results are to a reference, and how close they must be: the measures and bounds of every parity gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .contract import NUM_SAM_TOKENS, Array, Float64, Int64
from .errors import BundleError

# Of the columns of `mask_weights`, in their order; a plain SAM has no last one.
TOKEN_MASK_LABELS = (*(f"sam_{index}" for index in range(NUM_SAM_TOKENS)), "hq")

_ROUNDING = 1e-5  # of the range of the logits


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest admissible differences; `relative` is the maximum absolute error over the reference's range."""

    relative: float
    iou: float


# By precision. Written graphs under ONNX Runtime against PyTorch, at export.
EXPORT_TOLERANCES = {
    "fp32": Tolerance(relative=1e-3, iou=0.9999),
    "fp16": Tolerance(relative=5e-2, iou=0.97),
    "bf16": Tolerance(relative=1e-1, iou=0.95),
    "int8": Tolerance(relative=2e-1, iou=0.90),
    "fp8": Tolerance(relative=2e-1, iou=0.85),
}
# Engines against PyTorch and the graphs. Wider: other kernels, other order of sums. A wrong kernel is off by far more.
ENGINE_TOLERANCES = {
    "fp32": Tolerance(relative=5e-3, iou=0.999),
    "fp16": Tolerance(relative=1e-1, iou=0.97),
    "bf16": Tolerance(relative=2e-1, iou=0.95),
    "int8": Tolerance(relative=3e-1, iou=0.90),
    "fp8": Tolerance(relative=3e-1, iou=0.85),
}


def tolerance_of(precision: str, tolerances: Mapping[str, Tolerance]) -> Tolerance:
    """The row of a bundle's precision; BundleError if there is none."""
    if precision not in tolerances:
        raise BundleError(
            f"precision {precision!r}: nothing says how exact it must be, expected one of {', '.join(tolerances)}; "
            "use the samhq-export that wrote the bundle, or export it again"
        )
    return tolerances[precision]


def breaches(
    tolerance: Tolerance, *, mask_iou: Mapping[str, float], relative: Mapping[str, float], against: str
) -> list[str]:
    """What is out of tolerance, in words; empty if the results are close enough. NaN is always a breach.

    Args:
        tolerance: what is allowed.
        mask_iou: IoU by mask.
        relative: `relative_error` by tensor.
        against: what the results were compared with.
    """
    wrong_masks = [
        f"mask {name} against {against}: IoU {iou:.5f}, at least {tolerance.iou} required"
        for name, iou in mask_iou.items()
        if not iou >= tolerance.iou
    ]
    wrong_tensors = [
        f"{name} against {against}: relative error {error:.2e}, at most {tolerance.relative:.0e} allowed"
        for name, error in relative.items()
        if not error <= tolerance.relative
    ]
    return wrong_masks + wrong_tensors


def mask_overlap(logits: Array, reference: Array) -> tuple[Int64, Int64]:
    """Pixels in both masks and in either of two sets of logits (..., H, W), counted over the last two axes.

    Pixels whose reference logit is zero but for rounding belong to neither mask: no float32 arithmetic can call them.
    """
    undecided = np.abs(reference) <= _ROUNDING * np.ptp(reference)
    a, b = (logits > 0) & ~undecided, (reference > 0) & ~undecided
    return (a & b).sum(axis=(-2, -1)), (a | b).sum(axis=(-2, -1))


def iou_of(both: Int64, either: Int64) -> Float64:
    """From counts of `mask_overlap`; two empty masks agree."""
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def mask_iou(logits: Array, reference: Array) -> Float64:
    """IoU of the masks of two sets of logits over the last two axes."""
    return iou_of(*mask_overlap(logits, reference))


def relative_error(got: Array, reference: Array) -> float:
    """Largest absolute error over the reference's range; NaN if either has one."""
    difference = np.abs(got.astype(np.float32) - reference.astype(np.float32))
    return float(difference.max()) / (float(np.ptp(reference.astype(np.float32))) or 1.0)
