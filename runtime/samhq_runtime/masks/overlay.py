"""Masks drawn over an image, for people to look at."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OPACITY = 0.5
_GOLDEN_RATIO = 0.618033988749895
_TRUTH_COLOUR = (0, 0, 0)


def draw_overlay(
    image: NDArray[np.uint8], masks: Iterable[NDArray[np.bool_]], boxes: NDArray[Any] | None = None
) -> NDArray[np.uint8]:
    """`image` (H,W,3) tinted by each of `masks` (H,W), with white mask edges and the outlines of `boxes` (B,4)."""
    picture = image.astype(np.float32)
    for index, mask in enumerate(masks):
        colour = np.array(colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1, 0.85, 1.0), dtype=np.float32) * 255
        picture[mask] += _OPACITY * (colour - picture[mask])
        picture[_edge(mask)] = 255
    for box in [] if boxes is None else np.asarray(boxes).round().astype(int):
        _outline(picture, box)
    return picture.astype(np.uint8)


def draw_comparison(
    image: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.bool_]],
    boxes: NDArray[Any] | None = None,
    truth: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """The image and one panel per entry of `masks`, (B,H,W) each, side by side under their names.

    The outlines of `boxes` (B,4) are drawn over the image, those of `truth` (B,H,W) over every panel of masks.

    Returns:
        (h,w,3), the panels of the image's size with gaps between them.
    """
    unmarked = np.zeros((0, *image.shape[:2]), bool)
    panels = {"image": draw_overlay(image, unmarked, boxes)}
    for name, of_it in masks.items():
        panels[name] = draw_overlay(image, of_it)
        for mask in unmarked if truth is None else truth:
            panels[name][_outer_edge(mask)] = _TRUTH_COLOUR
    gap = max(2, image.shape[1] // 64)
    parts = [np.concatenate([_caption(name, image.shape[1]), panel]) for name, panel in panels.items()]
    spaced = [part for panel in parts for part in (np.full((len(panel), gap, 3), 255, np.uint8), panel)]
    return np.concatenate(spaced[1:], axis=1)


def _caption(text: str, width: int) -> NDArray[np.uint8]:
    """(h,width,3): the text in the middle, its size in proportion to the width."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    left, _, right, _ = (int(edge) for edge in font.getbbox(text))
    _, top, _, bottom = (int(edge) for edge in font.getbbox("Agy"))  # the same for every caption
    plate = Image.new("L", (right - left + 4, bottom - top + 4), 255)
    ImageDraw.Draw(plate).text((2 - left, 2 - top), text, fill=0, font=font)
    scale = max(1, round(width / 256))
    letters = np.asarray(plate).repeat(scale, 0).repeat(scale, 1)[:, :width]
    strip = np.full((len(letters), width), 255, np.uint8)
    start = (width - letters.shape[1]) // 2
    strip[:, start : start + letters.shape[1]] = letters
    return strip[..., None].repeat(3, axis=2)


def _outer_edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels outside the mask with a direct neighbour in it."""
    return _edge(np.pad(~mask, 1, constant_values=True))[1:-1, 1:-1]


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
