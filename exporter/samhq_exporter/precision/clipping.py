"""From measured magnitudes of an activation to the scale it is quantized with: the rules for what is clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..passes.quantize import NUMBERS, Number
from .policy import CLIPPING_RULES

_PERCENTILE = 99.99
_BINS = 2048
_INT8_MAX = int(NUMBERS["int8"].largest)
_SHARES = np.linspace(0.2, 1.0, 81)  # of the largest value: the clipping points that are tried

Values = NDArray[np.float32]


def minmax(magnitudes: Values, largest: float, number: Number) -> float:
    """Nothing is clipped."""
    return largest


def percentile(magnitudes: Values, largest: float, number: Number) -> float:
    """One value in ten thousand is clipped."""
    return float(np.percentile(magnitudes, _PERCENTILE))


def mean_square(magnitudes: Values, largest: float, number: Number) -> float:
    """The clipping point with the smallest mean square of rounding and clipping errors."""
    errors = [float(np.mean((magnitudes - _rounded(magnitudes, share * largest, number)) ** 2)) for share in _SHARES]
    return float(_SHARES[int(np.argmin(errors))]) * largest


def entropy(magnitudes: Values, largest: float, number: Number) -> float:
    """The clipping point whose 128-level histogram is closest, in relative entropy, to the 2048-bin one; int8 only."""
    counts = np.histogram(magnitudes, bins=_BINS, range=(0.0, largest))[0].astype(np.float64)
    ends = range(_INT8_MAX + 1, _BINS + 1, 16)
    best = min(ends, key=lambda end: _divergence(counts, end))
    return largest * best / _BINS


# From the magnitudes (n,) of an activation, and the largest of all, to the one that becomes the number's largest.
CLIPPING = dict(zip(CLIPPING_RULES, (minmax, percentile, mean_square, entropy), strict=True))


def activation_scale(magnitudes: Values, largest: float, rule: str, number: Number) -> float:
    """The symmetric per-tensor scale; positive even for an activation that is always zero."""
    clip = CLIPPING[rule](magnitudes, largest, number) if largest > 0 else 0.0
    return float(np.float32(max(clip, 1e-30) / number.largest))


def _rounded(magnitudes: Values, clip: float, number: Number) -> Values:
    scale, largest = np.float32(clip / number.largest), np.float32(number.largest)
    return number.round(np.minimum(magnitudes / scale, largest)).astype(np.float32) * scale


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    """Relative entropy of the first `end` bins, what is beyond added to the last one, to their 128-level version."""
    kept = counts[:end].copy()
    occupied = kept > 0
    levels = np.arange(end) * (_INT8_MAX + 1) // end
    mass, members = (np.bincount(levels, weights, _INT8_MAX + 1) for weights in (kept, occupied.astype(float)))
    coarse = np.where(occupied, (mass / np.maximum(members, 1))[levels], 0.0)
    kept[-1] += counts[end:].sum()
    shared = (kept > 0) & (coarse > 0)
    missing = kept[~shared].sum() / kept.sum()
    p, q = kept[shared] / kept.sum(), coarse[shared] / coarse.sum()
    return float((p * np.log(p / q)).sum() + missing * np.log(_BINS))
