"""Masks as pixels: a PNG for each object, or a NumPy file for each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..files import write_folder, write_whole
from ..frames.image_files import write_png
from .results import Catalogue, ImageResult


def write_pngs(path: Path, result: ImageResult, catalogue: Catalogue) -> None:
    """A folder with `1.png`, `2.png`...: 255 on the object, 0 beside it."""

    def fill(folder: Path) -> None:
        for number, item in enumerate(result.objects, 1):
            write_png(folder / f"{number}.png", item.mask().astype(np.uint8) * 255)

    write_folder(path, fill)


def write_npz(path: Path, result: ImageResult, catalogue: Catalogue) -> None:
    """`masks` (B,H,W) bool, `predicted_iou` (B,) float32, NaN where it is unknown, `categories` (B,) text."""
    masks = np.zeros((len(result.objects), *result.hw), bool)
    for mask, item in zip(masks, result.objects, strict=True):
        mask[:] = item.mask()
    iou = np.array([item.predicted_iou for item in result.objects], np.float32)
    categories = np.array([item.category for item in result.objects], np.str_)
    write_whole(path, lambda file: np.savez_compressed(file, masks=masks, predicted_iou=iou, categories=categories))
