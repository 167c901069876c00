"""Images and prompts that took the library down, or came out as NaN."""

from __future__ import annotations

import datetime
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle, Predictor
from samhq_runtime.contract import ModelFrame
from samhq_runtime.errors import PromptError
from samhq_runtime.evaluation.measure import Setting, measure_image
from samhq_runtime.evaluation.open import open_dataset
from samhq_runtime.masks.upscale import upscale_masks
from tests.support.serving import IMAGE


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        yield predictor


@pytest.mark.parametrize("hw", [(1, 1_000_000), (1_000_000, 1)])
def test_memory_grows_with_the_pixels_alone(hw: tuple[int, int]) -> None:
    """A matrix of such an axis took 3 GB."""
    logits = np.ones((1, 1, 16, 16), np.float32)
    tracemalloc.start()
    try:
        masks = upscale_masks(logits, hw, ModelFrame(64), threshold=0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert masks.shape == (1, 1, *hw)
    assert peak < 200e6


@pytest.mark.parametrize("count", [1025, 8_000, 30_000])
def test_points_are_limited(predictor: Predictor, count: int) -> None:
    with pytest.raises(PromptError, match=f"got {count} points in a prompt, expected at most 1024"):
        predictor.predict(np.ones((count, 2)), np.ones(count))


BOXES: list[Any] = [
    [0, 0, 3e38, 3e38],
    [-3e38, -3e38, 3e38, 3e38],
    [0, 0, 1e308, 1e308],
    [0, 0, 10**400, 1],
    [0, 0, float("nan"), 1],
    [0, 0, Fraction(1, 3), 1],
    [0, 0, 1j, 1],
    [np.datetime64("2020-01-01")] * 4,
    [datetime.date(2020, 1, 1)] * 4,
    [object()] * 4,
    [None] * 4,
    ["a"] * 4,
    [[0, 0, 1, 1], [1, 2]],
    b"\0\0\0\0",
    {"a": 1},
]


@pytest.mark.parametrize("box", BOXES, ids=lambda box: str(box)[:18])
def test_coordinates_are_refused_in_one_message(predictor: Predictor, box: Any) -> None:
    """Before the model sees them; afterwards the predictor answers as before."""
    before = predictor.predict(box=[5, 6, 40, 50])[2]
    with pytest.raises(PromptError, match=r"^(box|coordinates): "):
        predictor.predict(box=box)
    after = predictor.predict(box=[5, 6, 40, 50])[2]
    assert np.isfinite(after).all()
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("error", [RuntimeError, TypeError, MemoryError, AssertionError])
def test_one_poisonous_image_does_not_end_an_evaluation(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """It is recorded, with nothing of it measured; the next one is."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        Image.fromarray(IMAGE).save(tmp_path / "images" / f"{name}.png")
        mask = np.zeros(IMAGE.shape[:2], np.uint8)
        mask[10:40, 10:50] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    dataset = open_dataset(tmp_path)
    names = list(dataset.names)
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict_batch", poisoned(error))
        failed = measure_image(predictor, dataset, names[0], Setting())
    assert not failed.objects
    assert [(skip.reason, skip.detail) for skip in failed.skipped] == [("failed", f"{error.__name__}: from a library")]
    assert len(measure_image(predictor, dataset, names[1], Setting()).objects) == 1


def poisoned(error: type[Exception]) -> Any:
    def predict_batch(*arguments: Any, **options: Any) -> Any:
        raise error("from a library")

    return predict_batch
