"""Drawn scenes: what training, calibration and parity take for granted."""

from __future__ import annotations

import numpy as np
import pytest

from samhq_exporter.scenes.drawing import draw_scene

SEEDS = range(6)


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_are_of_the_image_and_apart(seed: int) -> None:
    scene = draw_scene(seed, 64)
    assert (scene.image.dtype, scene.image.shape) == (np.uint8, (64, 64, 3))
    assert scene.masks.shape == (len(scene.kinds), 64, 64)
    assert scene.masks.any(axis=(1, 2)).all()
    assert scene.masks.sum(axis=0).max() == 1  # no pixel belongs to two objects


def test_a_seed_is_a_scene() -> None:
    first, again, other = draw_scene(3, 64), draw_scene(3, 64), draw_scene(4, 64)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert (first.image != other.image).any()


def test_boxes_end_on_the_masks() -> None:
    scene = draw_scene(0, 64)
    for (x0, y0, x1, y1), mask in zip(scene.boxes, scene.masks, strict=True):
        assert mask[y0 : y1 + 1, x0 : x1 + 1].sum() == mask.sum()
        assert all(edge.any() for edge in (mask[y0], mask[y1], mask[:, x0], mask[:, x1]))
