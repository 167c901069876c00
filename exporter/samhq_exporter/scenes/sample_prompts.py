"""Prompts of every kind for an image, as the decoder takes them: what parity and calibration run on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from samhq_runtime.contract import Array, ModelSizes
from samhq_runtime.frames.prompts import encode_prompts
from samhq_runtime.masks.choice import every_token_mask


def prompt_feeds(sizes: ModelSizes, hw: tuple[int, int], boxes: NDArray[Any]) -> list[dict[str, Array]]:
    """Boxes, one point, three points of both kinds, box and point, mask and box; each for every box.

    Args:
        sizes: of the model.
        hw: size of the image whose pixels `boxes` (B,4) are given in.
    """
    centres = boxes.reshape(-1, 2, 2).mean(axis=1, keepdims=True)  # (B, 1, 2)
    corners = boxes.reshape(-1, 2, 2)
    several = np.concatenate([centres, corners], axis=1)
    count, side = len(boxes), sizes.low_res_size
    previous = 8 * np.random.default_rng(0).standard_normal((count, 1, side, side))
    kinds: list[dict[str, Any]] = [
        {"box": boxes},
        {"point_coords": centres, "point_labels": np.ones((count, 1))},
        {"point_coords": several, "point_labels": np.tile([1, 0, 0], (count, 1))},
        {"box": boxes, "point_coords": centres, "point_labels": np.ones((count, 1))},
        {"box": boxes, "mask_input": previous},
    ]
    frame: dict[str, Any] = {"original_hw": hw, "sizes": sizes}
    weights = every_token_mask(sizes.token_masks)
    return [encode_prompts(**frame, **kind).feeds(weights) for kind in kinds]
