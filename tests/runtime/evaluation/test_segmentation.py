"""Run lengths and polygons against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from samhq_runtime.evaluation.dataset import Unusable
from samhq_runtime.evaluation.segmentation import decode_segmentation
from tests.support.eval_datasets import MASKS, runs_of


@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_are_pycocotools_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hw = (int(rng.integers(1, 90)), int(rng.integers(1, 90)))
    mask = rng.random(hw) < rng.choice([0.0, 0.01, 0.5, 1.0])
    runs = runs_of(mask)
    np.testing.assert_array_equal(decode_segmentation(runs, hw), mask)
    with pytest.raises(Unusable):
        decode_segmentation({**runs, "counts": runs["counts"] + "1"}, hw)


def test_several_polygons_are_one_mask() -> None:
    polygons = [[5, 5, 30, 5, 30, 40, 5, 40], [50, 10, 70, 10, 70, 30]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 60, 80)))
    np.testing.assert_array_equal(decode_segmentation(polygons, (60, 80)), expected)
    np.testing.assert_array_equal(decode_segmentation(polygons[:1], (60, 80)), MASKS[0])
