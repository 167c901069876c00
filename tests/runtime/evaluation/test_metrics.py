"""IoU, boundary IoU, prompts from truth, means, calibration and paired differences, by hand and by definition."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from samhq_runtime.evaluation.measure import ImageRecord, ObjectScore
from samhq_runtime.evaluation.metrics import boundary, boundary_iou, boundary_radius, erode, iou
from samhq_runtime.evaluation.summary import compare, iou_calibration, size_of, summarise
from samhq_runtime.evaluation.truth import deepest_point
from samhq_runtime.masks.box import box_of, extent
from tests.support.eval_datasets import rectangles

Mask = NDArray[np.bool_]


@pytest.mark.parametrize(
    ("predicted", "truth", "expected_iou", "expected_boundary_iou"),
    [
        ((3, 3, 7, 7), (3, 3, 7, 7), 1.0, 1.0),
        # Rings of 12 pixels each, one column apart: they share columns 4..6 of the rows 3 and 6.
        ((4, 3, 8, 7), (3, 3, 7, 7), 12 / 20, 6 / 18),
        # A 2 x 2 square is all boundary, and inside the ring of the 4 x 4 square.
        ((4, 4, 6, 6), (3, 3, 7, 7), 4 / 16, 0.0),
        # The whole image: its border is a boundary.
        ((0, 0, 10, 10), (1, 1, 9, 9), 64 / 100, 0.0),
        ((0, 0, 10, 10), (0, 0, 10, 9), 90 / 100, 26 / (36 + 34 - 26)),
        ((0, 0, 0, 0), (3, 3, 7, 7), 0.0, 0.0),
    ],
)
def test_scores_counted_by_hand(
    predicted: tuple[int, int, int, int],
    truth: tuple[int, int, int, int],
    expected_iou: float,
    expected_boundary_iou: float,
) -> None:
    a, b = rectangles(predicted, truth, hw=(10, 10))
    assert boundary_radius((10, 10)) == 1
    assert iou(a, b) == pytest.approx(expected_iou)
    assert boundary_iou(a, b) == pytest.approx(expected_boundary_iou)


@pytest.mark.parametrize(("hw", "radius"), [((1, 1), 1), ((100, 100), 3), ((480, 640), 16), ((1024, 1024), 29)])
def test_boundary_radius_is_two_percent_of_the_diagonal(hw: tuple[int, int], radius: int) -> None:
    assert boundary_radius(hw) == radius


@pytest.mark.parametrize("seed", range(8))
def test_boundary_iou_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hw = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    ratio = float(rng.uniform(0.02, 0.2))
    predicted, truth = (rng.random((2, *hw)) < rng.choice([0.5, 0.97])).astype(bool)
    radius = boundary_radius(hw, dilation_ratio=ratio)
    regions = [boundary_by_definition(mask, radius) for mask in (predicted, truth)]
    for mask, region in zip((predicted, truth), regions, strict=True):
        np.testing.assert_array_equal(boundary(mask, radius), region)
    union = (regions[0] | regions[1]).sum()
    expected = (regions[0] & regions[1]).sum() / union if union else 1.0
    assert boundary_iou(predicted, truth, dilation_ratio=ratio) == pytest.approx(expected)


def boundary_by_definition(mask: Mask, radius: int) -> Mask:
    """`radius` erosions by a 3 x 3 square, one after the other, of the mask padded with background."""
    eroded = np.pad(mask, 1)
    for _ in range(radius):
        padded = np.pad(eroded, 1)
        shifts = [padded[r : r + eroded.shape[0], c : c + eroded.shape[1]] for r in range(3) for c in range(3)]
        eroded = np.logical_and.reduce(shifts)
    return mask & ~eroded[1:-1, 1:-1]


def test_erosion_of_what_is_smaller_than_the_square_is_empty() -> None:
    assert not erode(np.ones((5, 4), dtype=bool), 2).any()
    assert erode(np.ones((5, 5), dtype=bool), 2).sum() == 1
    assert extent(np.zeros((3, 3), dtype=bool)) == (slice(0, 0), slice(0, 0))
    with pytest.raises(ValueError, match="an empty mask has no box"):
        box_of(np.zeros((3, 3), dtype=bool))


@pytest.mark.parametrize(
    ("boxes", "box", "point"),
    [
        ([(3, 3, 8, 8)], (3, 3, 7, 7), (5, 5)),
        ([(2, 4, 3, 5)], (2, 4, 2, 4), (2, 4)),
        # A large square with a long tail: the point is in the square, not in the middle of the box.
        ([(0, 0, 9, 9), (9, 4, 30, 5)], (0, 0, 29, 8), (4, 4)),
        # Two squares of equal size: equally near to their middle, the first in reading order.
        ([(0, 2, 5, 7), (20, 2, 25, 7)], (0, 2, 24, 6), (2, 4)),
    ],
)
def test_prompts_from_a_mask(
    boxes: list[tuple[int, int, int, int]], box: tuple[int, ...], point: tuple[int, int]
) -> None:
    mask = rectangles(*boxes, hw=(20, 40)).any(axis=0)
    np.testing.assert_array_equal(box_of(mask), box)
    np.testing.assert_array_equal(deepest_point(mask), point)


def test_deepest_point_lies_as_deep_as_any() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = np.kron(rng.random((8, 8)) < 0.6, np.ones((5, 5))).astype(bool)
        x, y = deepest_point(mask).astype(int)
        depth = [r for r in range(20) if erode(mask, r).any()][-1]
        assert erode(mask, depth)[y, x]


@pytest.mark.parametrize(
    ("area", "size"), [(1, "small"), (1023, "small"), (1024, "medium"), (9216, "medium"), (9217, "large")]
)
def test_sizes_are_coco_s(area: int, size: str) -> None:
    assert size_of(area) == size


def score(
    target: str, iou: float, predicted: float | None = 0.5, *, area: int = 10, finite: bool = True
) -> ObjectScore:
    return ObjectScore(target, area, iou, iou / 2, predicted, finite)


def test_summary_counts_and_means() -> None:
    records = [
        ImageRecord("a", (score("1", 1.0), score("2", 0.5, area=5000)), ()),
        ImageRecord("b", (), ()),
        ImageRecord("c", (score("3", 0.0, None), score("4", 0.9, finite=False)), ()),
    ]
    scores = summarise(records)
    assert (scores.objects, scores.images, scores.non_finite) == (4, 2, 2)
    assert (scores.mean_iou, scores.mean_boundary_iou) == (pytest.approx(0.6), pytest.approx(0.3))
    assert {name: group.objects for name, group in scores.by_size.items()} == {"small": 3, "medium": 1, "large": 0}
    assert scores.by_size["medium"].mean_iou == 0.5
    assert scores.by_size["large"].mean_iou is None
    # Two images: each resample has the one twice, the other twice, or both.
    assert scores.mean_iou_interval == (pytest.approx(0.45), pytest.approx(0.75))


def test_calibration_by_hand() -> None:
    pairs = [(0.95, 1.0), (0.91, 0.9), (0.15, 0.35), (1.2, 0.9), (-0.1, 0.0)]
    calibration = iou_calibration([score(str(i), measured, predicted) for i, (predicted, measured) in enumerate(pairs)])
    filled = {i: (b.objects, b.mean_predicted_iou, b.mean_iou) for i, b in enumerate(calibration.bins) if b.objects}
    assert filled == {
        0: (1, pytest.approx(-0.1), pytest.approx(0.0)),
        1: (1, pytest.approx(0.15), pytest.approx(0.35)),
        9: (3, pytest.approx(3.06 / 3), pytest.approx(2.8 / 3)),
    }
    assert calibration.expected_error == pytest.approx((0.1 + 0.2 + 0.26) / 5)
    assert calibration.bias == pytest.approx((3.11 - 3.15) / 5)
    assert iou_calibration([score("1", 0.5, None)]).expected_error is None


def test_comparison_is_object_by_object() -> None:
    baseline = [ImageRecord("a", (score("1", 0.8), score("2", 0.6)), ()), ImageRecord("b", (score("3", 0.5),), ())]
    other = [ImageRecord("a", (score("1", 0.805), score("2", 0.3)), ()), ImageRecord("b", (score("3", 0.5),), ())]
    difference = compare("other", other, "first", baseline)
    assert difference.objects == 3
    assert difference.mean_iou_difference == pytest.approx((0.005 - 0.3) / 3)
    assert difference.mean_boundary_iou_difference == pytest.approx((0.005 - 0.3) / 6)
    assert (difference.largest_drop, difference.largest_drop_image, difference.largest_drop_target) == (
        pytest.approx(0.3),
        "a",
        "2",
    )
    assert difference.changed == pytest.approx(1 / 3)
    same = compare("other", baseline, "first", baseline)
    assert (same.mean_iou_difference, same.mean_iou_interval, same.largest_drop) == (0, (0, 0), 0)


@pytest.mark.parametrize("seed", range(4))
def test_iou_is_that_of_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = (rng.random((2, 37, 53)) < (0.2, 0.7)[seed % 2]).astype(np.uint8)
    runs = [coco_mask.encode(np.asfortranarray(mask)) for mask in (predicted, truth)]
    expected = coco_mask.iou(runs[:1], runs[1:], [0])[0, 0]
    assert iou(predicted.astype(bool), truth.astype(bool)) == pytest.approx(expected, abs=1e-12)
