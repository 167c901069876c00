"""What is written beside the results of a run."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
from PIL import Image

from samhq_runtime.formats import FoundObject, ImageResult, Outputs
from samhq_runtime.masks.overlay import draw_overlay
from samhq_runtime.masks.rle import encode_rle

HW = (200, 300)


def test_a_picture_of_many_masks_has_few_in_memory(tmp_path: Path) -> None:
    """The largest are drawn first, so that small ones lie on top; they are decoded as they are drawn."""
    masks = np.zeros((300, *HW), bool)
    for number, mask in enumerate(masks):
        mask[: 1 + number % HW[0], : 1 + number] = True
    objects = [FoundObject(rle=json.loads(encode_rle(mask)), predicted_iou=None) for mask in masks]
    image = np.full((*HW, 3), 90, np.uint8)
    tracemalloc.start()
    Outputs(folder=tmp_path, overlay=tmp_path).write_image(ImageResult("a", tmp_path, HW, objects), lambda: image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < masks.nbytes / 3
    largest_first = masks[np.argsort(-masks.sum(axis=(1, 2)), kind="stable")]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), draw_overlay(image, largest_first))
