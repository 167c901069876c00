"""A picture to measure on when none is given: seeded, with edges, gradients and grain, and boxes on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ELLIPSES = 40
_GRAIN = 6.0


def sample_image(hw: tuple[int, int], *, seed: int = 0) -> NDArray[np.uint8]:
    """(H,W,3) uint8 RGB."""
    generator = np.random.default_rng(seed)
    height, width = hw
    y, x = np.ogrid[:height, :width]
    image = np.empty((height, width, 3), np.float32)
    image[...] = (np.array([40, 70, 110]) + np.array([90, 60, 30]) * (x / width)[..., None]) * (0.6 + 0.4 * y / height)[
        ..., None
    ]
    for _ in range(_ELLIPSES):
        cx, cy = generator.uniform(0, width), generator.uniform(0, height)
        rx, ry = generator.uniform(0.02, 0.15, 2) * min(hw)
        inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        image[inside] = generator.uniform(0, 255, 3)
    for row in image:  # a row at a time: float noise for a whole photograph would cost more memory than the models
        row += generator.normal(0, _GRAIN, row.shape).astype(np.float32)
    return image.clip(0, 255).astype(np.uint8)


def sample_boxes(count: int, hw: tuple[int, int], *, seed: int = 0) -> NDArray[np.float32]:
    """(count,4) float32 x0, y0, x1, y1 pixels inside an image of this size."""
    generator = np.random.default_rng(seed)
    height, width = hw
    centres = generator.uniform(0.25, 0.75, (count, 2))
    halves = generator.uniform(0.05, 0.25, (count, 2))
    corners = np.concatenate([centres - halves, centres + halves], axis=1)
    return (corners * (width, height, width, height)).astype(np.float32)
