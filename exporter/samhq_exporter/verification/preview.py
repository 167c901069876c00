"""A picture a person can judge: the bundle's masks drawn over the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime.bundle import Bundle
from samhq_runtime.masks.overlay import draw_overlay
from samhq_runtime.predictor import Predictor


def write_preview(bundle: Bundle, image: NDArray[np.uint8], boxes: NDArray[Any], path: Path) -> None:
    """Predict one mask per box and save image, masks and boxes as a PNG."""
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        masks, _, _ = predictor.predict(box=boxes, multimask_output=False)
    Image.fromarray(draw_overlay(image, masks[:, 0], boxes)).save(path)
