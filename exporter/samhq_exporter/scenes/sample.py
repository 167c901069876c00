"""The pictures that parity is measured on and previews show, and boxes for pictures of unknown content."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .drawing import draw_scene

SCENE_SEED = 2_000_001  # outside the demo model's training and held-out seeds; its masks are of average quality
SCENE_SIZE = 512
_PREVIEW_SEED = 2_000_002  # the first from there on with a comb, a ring and a stroke


def default_scene() -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """A drawn image (H,W,3) and the boxes (B,4) of its objects."""
    scene = draw_scene(SCENE_SEED, SCENE_SIZE)
    return scene.image, scene.boxes


def preview_scene() -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.bool_]]:
    """A drawn image (H,W,3) with thin objects and holes, the boxes (B,4) of its objects, and their masks (B,H,W)."""
    scene = draw_scene(_PREVIEW_SEED, SCENE_SIZE)
    return scene.image, scene.boxes, scene.masks


def central_boxes(image: NDArray[np.uint8]) -> NDArray[Any]:
    """(1,4): the middle of an image of unknown content."""
    height, width = image.shape[:2]
    return np.array([[width // 5, height // 5, width - width // 5, height - height // 5]])
