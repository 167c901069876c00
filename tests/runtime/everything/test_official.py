"""`MaskGenerator` on exported bundles against the official `SamAutomaticMaskGenerator`: number, order and fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from samhq_runtime import MaskGenerator, Predictor
from samhq_runtime.bundle import Bundle
from samhq_runtime.evaluation.metrics import iou
from samhq_runtime.everything.grid import crops_of, regular_grids
from samhq_runtime.everything.nms import distinct
from tests.support.official import import_official, official_generator, torchvision_nms
from tests.support.reference import official_demo_sam, photographs

LEAST_IOU = 0.999
CLOSE = 1e-4  # predicted IoU, and a pixel or two of the stability score's two areas


def assert_same(got: list[dict[str, Any]], expected: list[dict[str, Any]], *, least: int) -> None:
    assert len(got) == len(expected) >= least
    for ours, theirs in zip(got, expected, strict=True):
        assert list(ours) == list(theirs)
        assert iou(ours["segmentation"], theirs["segmentation"]) >= LEAST_IOU
        assert ours["segmentation"].dtype == theirs["segmentation"].dtype
        for exact in ("point_coords", "crop_box"):
            assert ours[exact] == theirs[exact]
        assert ours["area"] == pytest.approx(theirs["area"], rel=1 - LEAST_IOU)
        assert np.abs(np.subtract(ours["bbox"], theirs["bbox"])).max() <= 1
        for close in ("predicted_iou", "stability_score"):
            assert ours[close] == pytest.approx(theirs[close], abs=5 * CLOSE)


@pytest.mark.parametrize(
    ("photo", "options", "least"),
    [
        ("larger 1411 x 1411", {"points_per_side": 4, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.7}, 3),
        (
            "landscape 400 x 600",
            {
                "points_per_side": 5,
                "pred_iou_thresh": 0.4,
                "stability_score_thresh": 0.6,
                "crop_n_layers": 1,
                "crop_n_points_downscale_factor": 2,
            },
            10,
        ),
        (
            "portrait 300 x 200",
            {
                "points_per_side": 6,
                "points_per_batch": 7,
                "pred_iou_thresh": 0.4,
                "stability_score_thresh": 0.5,
                "stability_score_offset": 1.5,
                "box_nms_thresh": 0.9,
                "min_mask_region_area": 60,
            },
            10,
        ),
        (
            "square 512",
            {
                "points_per_side": None,
                "point_grids": [np.random.default_rng(0).random((20, 2))],
                "pred_iou_thresh": 0.4,
                "stability_score_thresh": 0,
            },
            5,
        ),
    ],
)
def test_trained_demo_model(demo_bundle: Bundle, photo: str, options: dict[str, Any], least: int) -> None:
    image = photographs()[photo]
    expected = official_generator()(official_demo_sam(), **options).generate(image)
    with Predictor(demo_bundle) as predictor:
        assert_same(MaskGenerator(predictor, **options).generate(image), expected, least=least)


@pytest.mark.parametrize("multimask_output", [True, False])
def test_plain_sam(plain_bundle: Bundle, official_plain_sam: nn.Module, multimask_output: bool) -> None:
    """Three masks a point with `multimask_output`, which is all that the generator of `segment_anything` knows."""
    image = photographs()["portrait 300 x 200"]
    options = {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    generator = official_generator("segment_anything")(official_plain_sam, **options)
    if not multimask_output:
        official = generator.predictor.predict_torch
        generator.predictor.predict_torch = lambda *args, **given: official(
            *args, **{**given, "multimask_output": False}
        )
    expected = generator.generate(image)
    with Predictor(plain_bundle) as predictor:
        got = MaskGenerator(predictor, **options).generate(image, multimask_output)  # type: ignore[arg-type]
        assert_same(got, expected, least=3)


@pytest.mark.parametrize(("points", "layers", "factor"), [(1, 0, 1), (7, 2, 2), (32, 1, 1)])
def test_grids(points: int, layers: int, factor: int) -> None:
    amg = import_official().utils.amg
    expected = amg.build_all_layer_point_grids(points, layers, factor)
    for got, theirs in zip(regular_grids(points, layers, factor), expected, strict=True):
        np.testing.assert_array_equal(got, theirs)


@pytest.mark.parametrize("hw", [(400, 600), (601, 399), (64, 64), (3000, 17)])
@pytest.mark.parametrize(("layers", "ratio"), [(0, 0.5), (1, 512 / 1500), (2, 0), (3, 1.0)])
def test_crops(hw: tuple[int, int], layers: int, ratio: float) -> None:
    boxes, of_layer = import_official().utils.amg.generate_crop_boxes(hw, layers, ratio)
    assert crops_of(hw, layers, ratio) == [(tuple(box), layer) for box, layer in zip(boxes, of_layer, strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_suppressed_boxes(seed: int) -> None:
    """Equal scores and boxes without an area among them."""
    import torch

    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 40, (60, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    scores = rng.integers(0, 10, 60).astype(np.float32) / 10
    threshold = (0, 0.3, 0.7)[seed % 3]
    expected = torchvision_nms(torch.tensor(boxes).float(), torch.tensor(scores), torch.zeros(60), threshold)
    np.testing.assert_array_equal(distinct(boxes, scores, threshold), expected.numpy())


def test_nothing_in_any_crop(tiny_bundle: Bundle) -> None:
    """Where the official generator ends with an IndexError."""
    image: NDArray[np.uint8] = np.zeros((60, 90, 3), np.uint8)
    with Predictor(tiny_bundle) as predictor:
        generator = MaskGenerator(predictor, 2, stability_score_thresh=1, crop_n_layers=1, min_mask_region_area=5)
        assert generator.generate(image) == []
