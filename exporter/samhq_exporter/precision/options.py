"""What the user asks of the precision of both graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .calibration import CalibrationSet
from .report import Decision

Report = Callable[[Iterable[Decision]], None]


@dataclass(frozen=True, kw_only=True)
class PrecisionOptions:
    """One export's choices.

    Attributes:
        precision: a row of `policy.TABLE`.
        token_fusion: whose node the decoder must contain.
        keep_fp32: patterns of nodes that stay float32 whatever the policy says.
        calibration: what ranges are measured on.
        clipping: rule from measured values to int8 scales.
        report: takes the decision on every node; asking for it has the ranges measured in any precision.
    """

    precision: str
    token_fusion: str
    keep_fp32: tuple[str, ...]
    calibration: CalibrationSet
    clipping: str
    report: Report | None
