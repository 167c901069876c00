"""The pictures and boxes that exports are checked on."""

from __future__ import annotations

import numpy as np
import pytest

from samhq_exporter.demo.evaluate import HELD_OUT_SEED
from samhq_exporter.scenes.sample import SCENE_SEED, SCENE_SIZE, central_boxes, default_scene, preview_scene


def test_default_scene() -> None:
    image, boxes = default_scene()
    assert image.shape == (SCENE_SIZE, SCENE_SIZE, 3)
    assert boxes.shape == (len(boxes), 4)
    assert len(boxes) > 1
    assert SCENE_SEED < HELD_OUT_SEED  # the demo model is not measured on it


def test_preview_scene_has_a_mask_per_box() -> None:
    image, boxes, masks = preview_scene()
    assert masks.shape == (len(boxes), *image.shape[:2])


@pytest.mark.parametrize(
    ("hw", "box"),
    [((100, 50), [10, 20, 40, 80]), ((5, 5), [1, 1, 4, 4]), ((1, 1), [0, 0, 1, 1]), ((1, 400), [80, 0, 320, 1])],
)
def test_central_boxes(hw: tuple[int, int], box: list[int]) -> None:
    assert central_boxes(np.zeros((*hw, 3), np.uint8)).tolist() == [box]
