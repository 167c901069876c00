"""How well a mask matches the truth: IoU, and boundary IoU as Cheng et al. (CVPR 2021) define it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..masks.box import extent

Mask = NDArray[np.bool_]

DILATION_RATIO = 0.02  # of the image diagonal, as in the boundary IoU and HQ-SAM papers


def iou(predicted: Mask, truth: Mask) -> float:
    """Intersection over union of two (H,W) masks; 1 if both are empty."""
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def boundary_iou(predicted: Mask, truth: Mask, *, dilation_ratio: float = DILATION_RATIO) -> float:
    """IoU of the boundary regions of two (H,W) masks: their pixels within `boundary_radius` of the outside."""
    radius = boundary_radius((truth.shape[0], truth.shape[1]), dilation_ratio=dilation_ratio)
    window = extent(predicted | truth)
    return iou(boundary(predicted[window], radius), boundary(truth[window], radius))


def boundary_radius(image_hw: tuple[int, int], *, dilation_ratio: float = DILATION_RATIO) -> int:
    """Width in pixels of the boundary region in an image of (H, W); at least 1."""
    return max(1, round(dilation_ratio * math.hypot(*image_hw)))


def boundary(mask: Mask, radius: int) -> Mask:
    """The pixels of a (H,W) mask with one outside it at most `radius` rows and columns away.

    What lies beyond the array is outside the mask, so a mask cut by the image border has a boundary there.
    """
    return mask & ~erode(mask, radius)


def erode(mask: Mask, radius: int) -> Mask:
    """The pixels of a (H,W) mask whose square of side 2 * radius + 1 lies in the mask; O(H W) for any radius."""
    return _erode_rows(_erode_rows(mask, radius).T, radius).T


def _erode_rows(mask: Mask, radius: int) -> Mask:
    """Along the first axis: a run of 2 * radius + 1 pixels is inside if as many were counted in it."""
    length = 2 * radius + 1
    inside = np.zeros_like(mask)
    if len(mask) >= length:
        counts = np.zeros((len(mask) + 1, *mask.shape[1:]), dtype=np.int32)
        np.cumsum(mask, axis=0, out=counts[1:])
        inside[radius : len(mask) - radius] = counts[length:] - counts[:-length] == length
    return inside
