"""Pictures of masks."""

from __future__ import annotations

import numpy as np

from samhq_runtime.masks.overlay import draw_comparison, draw_overlay

GREY = np.full((40, 200, 3), 90, np.uint8)


def test_comparison() -> None:
    """Panels of equal size under captions; the truth's outline lies outside of it, and nowhere else is it black."""
    mask, truth = np.zeros((2, 40, 200), bool)
    mask[10:20, 20:60] = True
    truth[10:25, 20:60] = True
    picture = draw_comparison(
        GREY, {"SAM": mask[None], "SAM-HQ": truth[None]}, np.array([[20, 10, 59, 24]]), truth[None]
    )
    gap = 200 // 64
    assert picture.shape[1] == 3 * 200 + 2 * gap
    caption, panels = picture[:-40], picture[-40:]
    assert (caption[:, :200] < 128).any()
    np.testing.assert_array_equal(panels[:, :200], draw_overlay(GREY, np.zeros((0, 40, 200), bool), [[20, 10, 59, 24]]))
    black = (panels[:, 200 + gap : 400 + gap] == 0).all(axis=2)
    outline = np.zeros_like(truth)
    outline[9, 20:60] = outline[25, 20:60] = True
    outline[10:25, 19] = outline[10:25, 60] = True
    np.testing.assert_array_equal(black, outline)


def test_truth_that_fills_the_picture_has_no_outline() -> None:
    whole = np.ones((1, 40, 200), bool)
    with_truth, without = (draw_comparison(GREY, {"SAM": whole}, truth=truth) for truth in (whole, None))
    np.testing.assert_array_equal(with_truth, without)
