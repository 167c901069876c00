"""The picture that parity is measured on, and boxes for pictures of unknown content."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samhq_runtime.masks.box import box_of

from .drawing import draw_scene

SCENE_SEED = 2_000_001  # outside the demo model's training and held-out seeds; its masks are of average quality


SCENE_SIZE = 512


def default_scene() -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """A drawn image (H,W,3) and the boxes (B,4) of its objects."""
    scene = draw_scene(SCENE_SEED, SCENE_SIZE)
    return scene.image, np.array([box_of(mask) for mask in scene.masks])


def central_boxes(image: NDArray[np.uint8]) -> NDArray[Any]:
    """(1,4): the middle of an image of unknown content."""
    height, width = image.shape[:2]
    return np.array([[width // 5, height // 5, width - width // 5, height - height // 5]])
