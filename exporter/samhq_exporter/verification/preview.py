"""A picture a person can judge: the bundle's masks drawn over the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime.bundle import Bundle
from samhq_runtime.masks.overlay import draw_comparison
from samhq_runtime.predictor import Predictor


def write_preview(
    bundle: Bundle,
    path: Path,
    image: NDArray[np.uint8],
    boxes: NDArray[Any],
    truth: NDArray[np.bool_] | None = None,
) -> None:
    """Predict one mask per box and save a PNG: the image with the boxes, SAM's masks and SAM-HQ's side by side.

    Args:
        bundle: a plain SAM's has a panel less.
        path: of the PNG.
        image: (H,W,3).
        boxes: (B,4).
        truth: (B,H,W) masks whose outlines are drawn over the predicted ones.
    """
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        masks = {"SAM": _masks(predictor, boxes, sam_tokens_only=True)}
        if bundle.manifest.sizes.has_hq:
            masks["SAM-HQ"] = _masks(predictor, boxes)
    Image.fromarray(draw_comparison(image, masks, boxes, truth)).save(path)


def _masks(predictor: Predictor, boxes: NDArray[Any], *, sam_tokens_only: bool = False) -> NDArray[np.bool_]:
    masks, _, _ = predictor.predict_batch(box=boxes, multimask_output=False, sam_tokens_only=sam_tokens_only)
    return masks[:, 0].astype(bool)
