"""Coarse truth, such as an annotator in a hurry or a model labelling its own training data leaves behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter

_SMOOTHING = 0.06  # standard deviation of the Gaussian, of the object's size
_THRESHOLD = 0.4  # below 0.5: gaps between thin parts close before the parts vanish


def coarsen(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H,W) bool -> the same object drawn carelessly: no holes, no thin parts, a smooth outline; never empty.

    The object's size is the geometric mean of its bounding box's sides. Twice its scale is twice the smoothing.
    """
    solid = binary_fill_holes(mask)

    smooth = gaussian_filter(solid.astype(np.float32), _SMOOTHING * float(np.sqrt(np.count_nonzero(mask))))
    coarse = smooth > _THRESHOLD
    return np.asarray(coarse if coarse.any() else solid)
