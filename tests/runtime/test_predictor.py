"""`Predictor` on a tiny bundle: batches, state, return types, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from samhq_runtime import Bundle, EncodedImage, Predictor, SamHqError
from samhq_runtime.contract import MASK_DECODER
from samhq_runtime.errors import ImageError, PromptError
from samhq_runtime.frames.prompts import encode_prompts
from tests.support.bundles import export
from tests.support.models import save_checkpoint, tiny_sam

BOXES = np.array([[5, 6, 40, 50], [20, 3, 79, 59], [0, 0, 9, 9]])
HW = (60, 80)
POINT = {"point_coords": [[30, 25]], "point_labels": [1]}
NAN, INF = float("nan"), float("inf")
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def picture(seed: int = 0, hw: tuple[int, int] = HW) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def shared(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        yield predictor


@pytest.fixture
def predictor(shared: Predictor) -> Predictor:
    shared.set_image(picture())
    return shared


@pytest.mark.parametrize("options", [{}, {"multimask_output": False}, {"hq_token_only": True}])
def test_boxes_together_equal_one_by_one(predictor: Predictor, options: dict[str, bool]) -> None:
    together = predictor.predict(box=BOXES, return_logits=True, **options)
    for index, box in enumerate(BOXES):
        for ours, alone in zip(together, predictor.predict(box=box, return_logits=True, **options), strict=True):
            np.testing.assert_allclose(ours[index], alone, **CLOSE)


@pytest.mark.parametrize("box", [None, BOXES])
def test_uneven_objects_together_equal_one_by_one(predictor: Predictor, box: NDArray[np.int64] | None) -> None:
    points, labels = [[[30, 25]], [[1, 2], [3, 4], [5, 9]], [[40, 7]]], [[1], [0, 1, -1], [1]]
    together = predictor.predict(points, labels, box, return_logits=True)
    for index in range(3):
        corners = None if box is None else box[index]
        alone = predictor.predict(points[index], labels[index], corners, return_logits=True)
        for ours, expected in zip(together, alone, strict=True):
            np.testing.assert_allclose(ours[index], expected, **CLOSE)


def test_images_together_equal_one_by_one(shared: Predictor) -> None:
    """At session level: several encoded images in one call, each prompt naming its own."""
    images = [shared.encode(picture(seed)) for seed in (1, 2)]
    sizes = shared.bundle.manifest.sizes
    prompts = encode_prompts(
        box=BOXES,
        original_hw=HW,
        sizes=sizes,
    )
    weights = np.eye(5, dtype=np.float32)

    def decode(encoded: list[EncodedImage], index: list[int]) -> dict[str, NDArray[Any]]:
        features = {name: np.concatenate([image.features[name] for image in encoded]) for name in images[0].features}
        with shared.bundle.open(MASK_DECODER, threads=1) as session:
            return session({**features, **prompts.feeds(weights, image_index=np.array(index))})

    mixed, first, second = decode(images, [0, 1, 1]), decode(images[:1], [0, 0, 0]), decode(images[1:], [0, 0, 0])
    for name, got in mixed.items():
        np.testing.assert_allclose(got, np.concatenate([first[name][:1], second[name][1:]]), **CLOSE)
    assert np.abs(first["low_res_logits"] - second["low_res_logits"]).max() > 0.01  # the images do differ


@pytest.mark.parametrize(
    ("prompts", "leading"),
    [
        (POINT, ()),
        ({"box": BOXES[0]}, ()),
        ({"box": BOXES}, (3,)),
        ({"box": BOXES[:1]}, ()),  # as upstream
        ({"point_coords": [[[30, 25]]], "point_labels": [[1]]}, (1,)),
        ({"point_coords": [[[30, 25]], [[1, 2]]], "point_labels": [[1], [0]]}, (2,)),
        ({"mask_input": np.zeros((2, 1, 32, 32))}, (2,)),
        ({"point_coords": [[[30, 25]], [[1, 2], [3, 4]]], "point_labels": [[1], [0, 1]]}, (2,)),
        ({"box": np.zeros((0, 4))}, (0,)),
        ({"box": []}, (0,)),
        ({"point_coords": [], "point_labels": []}, (0,)),
    ],
)
@pytest.mark.parametrize("return_logits", [False, True])
def test_return_types(predictor: Predictor, prompts: Any, leading: tuple[int, ...], return_logits: bool) -> None:
    for options in ({}, {"multimask_output": False}, {"hq_token_only": True}):
        masks, iou, low_res = predictor.predict(**prompts, **options, return_logits=return_logits)
        assert masks.dtype == (np.float32 if return_logits else np.bool_)
        assert iou.dtype == low_res.dtype == np.float32
        assert (masks.shape, iou.shape, low_res.shape) == ((*leading, 1, *HW), (*leading, 1), (*leading, 1, 32, 32))


def test_masks_are_logits_above_the_threshold(predictor: Predictor) -> None:
    masks, _, _ = predictor.predict(**POINT)
    logits, _, _ = predictor.predict(**POINT, return_logits=True)
    np.testing.assert_array_equal(masks, logits > predictor.bundle.manifest.mask_threshold)


def test_mask_input_round_trip(predictor: Predictor) -> None:
    _, _, low_res = predictor.predict(box=BOXES)
    again = predictor.predict(box=BOXES, mask_input=low_res, return_logits=True)
    alone = predictor.predict(box=BOXES[1], mask_input=low_res[1], return_logits=True)
    without = predictor.predict(box=BOXES[1], return_logits=True)
    for batched, single, plain in zip(again, alone, without, strict=True):
        np.testing.assert_allclose(batched[1], single, **CLOSE)
        assert np.abs(single - plain).max() > 1e-3  # it is read


def test_mask_alone_has_no_points_at_all(predictor: Predictor) -> None:
    mask = np.random.default_rng(0).normal(0, 5, (2, 1, 32, 32)).astype(np.float32)
    logits, _, _ = predictor.predict(mask_input=mask, return_logits=True)
    assert np.isfinite(logits).all()
    assert np.abs(logits[0] - logits[1]).max() > 1e-3


def test_hq_token_override_equals_a_checkpoint_with_that_token(
    tiny_bundle: Bundle, predictor: Predictor, tmp_path: Path
) -> None:
    token = torch.randn(1, 64, generator=torch.Generator().manual_seed(5))
    sam = tiny_sam()
    sam.mask_decoder.hq_token.weight.copy_(token)
    original = predictor.predict(box=BOXES, return_logits=True)[2]
    results = []
    for bundle, override in (
        (tiny_bundle, {"hq_token": token.numpy()}),
        (export(save_checkpoint(sam, tmp_path / "other.pth"), tmp_path / "bundle"), {}),
    ):
        with Predictor(bundle, threads=1, **override) as other:
            other.set_image(picture())
            results.append(other.predict(box=BOXES, return_logits=True)[2])
    np.testing.assert_allclose(*results, **CLOSE)
    assert np.abs(results[0] - original).max() > 0.01


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        ({}, "no prompt"),
        ({"point_coords": [[1, 2]]}, "go together"),
        ({"point_coords": [[NAN, 2]], "point_labels": [1]}, "NaN"),
        ({"box": [0, 0, INF, 9]}, "infinity"),
        ({"box": [9, 9, 1, 1]}, "swapped"),
        ({"box": BOXES, "mask_input": np.zeros((2, 1, 32, 32))}, "same number"),
        ({"mask_input": np.zeros((1, 256, 256))}, "mask_input"),  # of a model of another size
        ({"point_coords": [[1, 2]], "point_labels": [3]}, "expected 1"),
    ],
)
def test_prompts_refused(predictor: Predictor, prompts: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PromptError, match=complaint):
        predictor.predict(**prompts)


def test_an_image_must_be_set_and_a_refused_one_clears_it(tiny_bundle: Bundle) -> None:
    with Predictor(str(tiny_bundle.path), threads=1) as predictor:
        with pytest.raises(PromptError, match="no image set"):
            predictor.predict(**POINT)
        predictor.set_image(picture())
        predictor.predict(**POINT)
        with pytest.raises(ImageError):
            predictor.set_image(picture()[..., 0])
        with pytest.raises(PromptError, match="no image set"):  # never the masks of the image before
            predictor.predict(**POINT)
        predictor.set_image(picture())
        predictor.reset_image()
        with pytest.raises(PromptError, match="no image set"):
            predictor.predict(**POINT)


@pytest.mark.parametrize(
    "image",
    [picture()[..., 0], np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 4), np.uint8), picture() / 255, [[1]]],
    ids=["grey", "empty", "RGBA", "float", "list"],
)
def test_images_refused(shared: Predictor, image: Any) -> None:
    with pytest.raises(ImageError, match="image: got"):
        shared.set_image(image)


@pytest.mark.parametrize("hw", [(1, 1), (1, 200), (200, 1), (129, 127), (2, 900)])
def test_images_of_odd_sizes(shared: Predictor, hw: tuple[int, int]) -> None:
    shared.set_image(picture(0, hw))
    logits, _, _ = shared.predict([[0, 0]], [1], return_logits=True)
    assert logits.shape == (1, *hw)
    assert np.isfinite(logits).all()


def test_same_answer_twice_and_results_are_the_callers(predictor: Predictor) -> None:
    first = predictor.predict(box=BOXES, return_logits=True)
    kept = [array.copy() for array in first]
    for array in first:
        array[:] = 0
    for again, expected in zip(predictor.predict(box=BOXES, return_logits=True), kept, strict=True):
        np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    "token", [np.zeros((1, 3)), np.zeros((2, 64)), np.full((1, 64), NAN), [["a"] * 64], "no/hq_token.npy"]
)
def test_hq_token_refused_before_a_session_is_open(
    tiny_bundle: Bundle, token: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bundle, "open", lambda *_, **__: pytest.fail("opened a session"))
    with pytest.raises(SamHqError, match="hq_token"):
        predict_with(tiny_bundle, token)


def test_hq_token_by_path_or_its_text(tiny_bundle: Bundle, tmp_path: Path) -> None:
    token, path = np.random.default_rng(4).normal(size=(1, 64)).astype(np.float32), tmp_path / "token.npy"
    np.save(path, token)
    given, by_path, by_text = (predict_with(tiny_bundle, each) for each in (token, path, str(path)))
    np.testing.assert_array_equal(by_path, given)
    np.testing.assert_array_equal(by_text, given)


def predict_with(bundle: Bundle, token: Any) -> NDArray[np.float32]:
    with Predictor(bundle, threads=1, hq_token=token) as predictor:
        predictor.set_image(picture())
        return predictor.predict(box=BOXES)[2]
