"""Folders of drawn images with one mask each, as `samhq eval` and `samhq-export train-hq` read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from samhq_exporter.scenes.drawing import draw_scene


def draw_pairs(folder: Path, count: int, *, size: int = 128, first_seed: int = 5_000_000) -> Path:
    """`folder/im/N.png` and the mask of the largest object in `folder/gt/N.png`."""
    for name in ("im", "gt"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        scene = draw_scene(first_seed + number, size)
        largest = max(scene.masks, key=np.count_nonzero)
        Image.fromarray(scene.image).save(folder / "im" / f"{number}.png")
        Image.fromarray(largest.astype(np.uint8) * 255).save(folder / "gt" / f"{number}.png")
    return folder
