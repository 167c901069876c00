"""Summaries of repeated timings, and ratios of two of them with their spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)  # percent


def summarise(seconds: Sequence[float]) -> dict[str, Any]:
    """Percentiles of repeated timings in seconds, with the timings themselves in the order they were taken."""
    p50, p90, p99 = np.percentile(seconds, (50, 90, 99))
    return {
        "repeats": len(seconds),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "mean": float(np.mean(seconds)),
        "seconds": [float(s) for s in seconds],
    }


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians and its 95 % interval, by resampling both sets of timings."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio_of_medians(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """median(numerator) / median(denominator). The resampling is seeded: the same timings, the same interval."""
    generator = np.random.default_rng(0)
    top, bottom = (
        np.median(generator.choice(np.asarray(values), (_RESAMPLES, len(values))), axis=1)
        for values in (numerator, denominator)
    )
    low, high = np.percentile(top / bottom, _INTERVAL)
    return Ratio(float(np.median(numerator) / np.median(denominator)), float(low), float(high))
