"""Pillow's antialiased bilinear resize, and the upscaling of masks, as one matrix per axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract import Float32, Float64
from ..masks.upscale import Band

_STEPS = 1 << 22  # Pillow's weights for 8-bit pixels are whole multiples of 1 / _STEPS
_MOST = 1 << 16  # and those of their sums that are multiples of 1 / _MOST fit into a float32


def resize_matrix(source: int, target: int, side: int) -> Float64:
    """(side, source): the first `target` rows resize an axis of `source` pixels, those below are zero.

    A target pixel is the mean of the source under a triangle around its centre, as wide as two target pixels are there,
    at least two source pixels (`ImagingResample` with `BILINEAR`).
    """
    scale = source / target
    width = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    weights = np.maximum(1 - np.abs(np.arange(source) + 0.5 - centres[:, None]) / width, 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.concatenate([weights, np.zeros((side - target, source))])


def split_steps(matrix: Float64) -> tuple[Float32, Float32]:
    """Pillow's weights for 8-bit pixels in two parts, whose sums over pixels are exact in float32."""
    steps = np.floor(matrix * _STEPS + 0.5) / _STEPS
    most = np.floor(steps * _MOST) / _MOST
    return most.astype(np.float32), (steps - most).astype(np.float32)


def upscale_matrix(bands: Sequence[Band], side: int) -> Float32:
    """(targets, side): the bands of an axis as the matrix that they are a band of."""
    matrix = np.zeros((bands[-1].targets.stop, side), np.float32)
    for band in bands:
        matrix[band.targets, band.sources] = band.weights
    return matrix
