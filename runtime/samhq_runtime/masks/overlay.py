"""Masks over an image, for eyes."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OPACITY = 0.5
_GOLDEN_RATIO = 0.618033988749895


def draw_overlay(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], boxes: NDArray[Any] | None = None
) -> NDArray[np.uint8]:
    """`image` (H,W,3) tinted by each of `masks` (B,H,W), with white mask edges and the outlines of `boxes` (B,4)."""
    picture = image.astype(np.float32)
    for index, mask in enumerate(masks):
        colour = np.array(colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1, 0.85, 1.0), dtype=np.float32) * 255
        picture[mask] += _OPACITY * (colour - picture[mask])
        picture[_edge(mask)] = 255
    for box in [] if boxes is None else np.asarray(boxes).round().astype(int):
        _outline(picture, box)
    return picture.astype(np.uint8)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the mask with a direct neighbour outside it."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return mask & ~inside


def _outline(picture: NDArray[np.float32], box: NDArray[Any]) -> None:
    height, width = picture.shape[:2]
    x0, x1 = np.clip(box[[0, 2]], 0, width - 1)
    y0, y1 = np.clip(box[[1, 3]], 0, height - 1)
    picture[[y0, y1], x0 : x1 + 1] = (255, 220, 0)
    picture[y0 : y1 + 1, [x0, x1]] = (255, 220, 0)
