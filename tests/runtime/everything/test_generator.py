"""`MaskGenerator` against the `Predictor` it asks, its forms of output, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samhq_runtime import Bundle, MaskGenerator, Predictor, SamHqError
from samhq_runtime.masks.rle import decode_rle

EVERY_MASK: dict[str, Any] = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1}
IMAGE: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Any:
    with Predictor(tiny_bundle) as opened:
        yield opened


@pytest.mark.parametrize(
    ("multimask_output", "tokens"),
    [(True, {}), (False, {}), (True, {"hq_token_only": True}), (False, {"sam_tokens_only": True})],
)
def test_masks_are_those_of_the_predictor(
    predictor: Predictor, multimask_output: bool, tokens: dict[str, bool]
) -> None:
    records = MaskGenerator(predictor, 3, **EVERY_MASK).generate(IMAGE, multimask_output, **tokens)
    image = predictor.encode(IMAGE)
    assert len(records) == 9
    assert [r["predicted_iou"] for r in records] == sorted((r["predicted_iou"] for r in records), reverse=True)
    for record in records:
        masks, iou, _ = predictor.predict(
            record["point_coords"], [1], multimask_output=multimask_output, image=image, **tokens
        )
        np.testing.assert_array_equal(record["segmentation"], masks[0])
        assert record["predicted_iou"] == pytest.approx(iou[0], abs=1e-5)
        assert (record["area"], record["crop_box"]) == (masks[0].sum(), [0, 0, 90, 60])


def test_the_current_image_stays(predictor: Predictor) -> None:
    predictor.set_image(IMAGE)
    before = predictor.features
    MaskGenerator(predictor, 1).generate(IMAGE[::-1])
    assert predictor.features is before or np.array_equal(predictor.features, before)


def test_forms_of_output(predictor: Predictor) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="the reader of COCO's text")
    forms = {
        mode: MaskGenerator(predictor, 2, **EVERY_MASK, output_mode=mode).generate(IMAGE)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    }
    for binary, listed, text in zip(*forms.values(), strict=True):
        mask = binary["segmentation"]
        assert listed["segmentation"]["size"] == text["segmentation"]["size"] == [60, 90]
        np.testing.assert_array_equal(decode_rle(listed["segmentation"]), mask)
        np.testing.assert_array_equal(decode_rle(text["segmentation"]), mask)
        np.testing.assert_array_equal(coco.decode(text["segmentation"]), mask)


def test_batches_change_nothing(predictor: Predictor) -> None:
    every, one = (MaskGenerator(predictor, 3, batch, 0, 0.1).generate(IMAGE) for batch in (64, 1))
    assert [r["point_coords"] for r in every] == [r["point_coords"] for r in one]
    assert [r["area"] for r in every] == pytest.approx([r["area"] for r in one], abs=2)


def test_progress(predictor: Predictor) -> None:
    shown: list[tuple[float, str]] = []
    generator = MaskGenerator(predictor, 4, 6, crop_n_layers=1, crop_n_points_downscale_factor=2)
    generator.generate(IMAGE, progress=lambda fraction, phase: shown.append((fraction, phase)))
    fractions = [fraction for fraction, _ in shown]
    assert fractions == sorted(fractions)
    assert (fractions[-1], shown[0][1], shown[-1][1]) == (1, "crop 1 of 5", "crop 5 of 5")
    assert len(shown) == 3 + 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"points_per_side": 0}, "points_per_side: got 0, expected at least 1"),
        ({"points_per_side": None}, "points_per_side and point_grids: expected exactly one"),
        ({"point_grids": [[[0.5, 0.5]]]}, "points_per_side and point_grids: expected exactly one"),
        ({"points_per_side": None, "point_grids": []}, "point_grids: got 0, expected 1"),
        ({"points_per_side": None, "point_grids": [np.zeros((0, 2))]}, r"point_grids: got shape \(0, 2\)"),
        ({"points_per_side": None, "point_grids": [[[0.5, 1.5]]]}, "x and y from 0 to 1"),
        ({"points_per_side": None, "point_grids": [[["a", "b"]]]}, "point_grids: not numbers"),
        ({"points_per_side": None, "point_grids": [[[0.5, 0.5]]], "crop_n_layers": 1}, "got 1, expected 2"),
        ({"points_per_batch": 0}, "points_per_batch: got 0"),
        ({"points_per_batch": 1.5}, "points_per_batch: got 1.5"),
        ({"pred_iou_thresh": 88}, "pred_iou_thresh: got 88, expected a number from 0 to 1"),
        ({"stability_score_thresh": float("nan")}, "stability_score_thresh: got nan"),
        ({"stability_score_offset": -1}, "stability_score_offset: got -1, expected a number of at least 0"),
        ({"box_nms_thresh": "0.7"}, "box_nms_thresh: got '0.7'"),
        ({"crop_nms_thresh": -0.1}, "crop_nms_thresh: got -0.1"),
        ({"crop_overlap_ratio": 2}, "crop_overlap_ratio: got 2"),
        ({"crop_n_layers": -1}, "crop_n_layers: got -1"),
        ({"points_per_side": 4, "crop_n_layers": 2, "crop_n_points_downscale_factor": 3}, "crops of layer 2 no points"),
        ({"min_mask_region_area": -1}, "min_mask_region_area: got -1"),
        ({"output_mode": "png"}, "output_mode: got 'png', expected one of binary_mask, uncompressed_rle, coco_rle"),
    ],
)
def test_options_that_are_refused(predictor: Predictor, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SamHqError, match=complaint):
        MaskGenerator(predictor, **options)


@pytest.mark.parametrize(
    ("image", "options", "complaint"),
    [
        (IMAGE[:3, :3], {"crop_n_layers": 2}, "image of 3 x 3 pixels: too small for 4 x 4 crops"),
        (IMAGE[..., 0], {}, "expected uint8"),
        (IMAGE[:0], {}, "at least one pixel"),
    ],
)
def test_images_that_are_refused(predictor: Predictor, image: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SamHqError, match=complaint):
        MaskGenerator(predictor, 8, **options).generate(image)


def test_hq_token_of_a_plain_sam(plain_bundle: Bundle) -> None:
    with Predictor(plain_bundle) as plain, pytest.raises(SamHqError, match="plain SAM"):
        MaskGenerator(plain).generate(IMAGE, hq_token_only=True)
