"""A picture a person can judge: the bundle's masks drawn over the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime.bundle import Bundle
from samhq_runtime.overlay import draw_overlay
from samhq_runtime.predictor import Predictor

from .demo.scenes import draw_scene

SCENE_SEED = 2_000_001  # outside the demo model's training and held-out seeds; its masks are of average quality
SCENE_SIZE = 512


def default_scene() -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """A drawn image (H,W,3) and the boxes (B,4) of its objects."""
    scene = draw_scene(SCENE_SEED, SCENE_SIZE)
    return scene.image, np.array([box_of(mask) for mask in scene.masks])


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """(H,W) mask -> x0, y0, x1, y1 of its pixels, the last row and column included."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def central_boxes(image: NDArray[np.uint8]) -> NDArray[Any]:
    """(1,4): the middle of an image of unknown content."""
    height, width = image.shape[:2]
    return np.array([[width // 5, height // 5, width - width // 5, height - height // 5]])


def write_preview(bundle: Bundle, image: NDArray[np.uint8], boxes: NDArray[Any], path: Path) -> None:
    """Predict one mask per box and save image, masks and boxes as a PNG."""
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        masks, _, _ = predictor.predict(box=boxes, multimask_output=False)
    Image.fromarray(draw_overlay(image, masks[:, 0], boxes)).save(path)
