"""Many images at a time, and refinement: the results are those of one call after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from samhq_runtime import Predictor
from samhq_runtime.decoding import Decoding
from samhq_runtime.errors import ConfigError, ImageError, PromptError

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
BOXES = np.array([[5, 6, 40, 50], [20, 3, 59, 39], [0, 0, 9, 9]])
UNEVEN = {"point_coords": [[[3, 4]], [[5, 6], [7, 8], [9, 9]], [[30, 20]]], "point_labels": [[1], [1, 0, 1], [1]]}
MASK = {"box": BOXES[:2], "mask_input": np.linspace(-9, 9, 32 * 32).reshape(1, 1, 32, 32)}
HWS = ((60, 80), (40, 60), (90, 30))


@pytest.fixture(scope="module", params=["tiny_bundle", "plain_bundle"])
def predictor(request: pytest.FixtureRequest) -> Iterator[Predictor]:
    with Predictor(request.getfixturevalue(request.param), threads=1, prompts_per_call=4) as predictor:
        yield predictor


def pictures() -> list[Any]:
    return [np.random.default_rng(i).integers(0, 256, (*hw, 3), dtype=np.uint8) for i, hw in enumerate(HWS)]


def test_images_encoded_together(predictor: Predictor) -> None:
    together = predictor.encode_batch(pictures())
    for image, encoded in zip(pictures(), together, strict=True):
        alone = predictor.encode(image)
        assert encoded.original_hw == alone.original_hw
        for name, array in alone.features.items():
            np.testing.assert_allclose(encoded.features[name], array, **CLOSE)
    assert predictor.encode_batch([]) == []
    with pytest.raises(ImageError, match="expected"):
        predictor.encode_batch([np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize("options", [{}, {"multimask_output": False}, {"sam_tokens_only": True}])
@pytest.mark.parametrize(
    ("prompts", "calls"),
    [
        ([{"box": BOXES}, {"box": BOXES[0]}, {"box": BOXES[1:]}], [4, 2]),
        ([UNEVEN, {"box": BOXES[0]}, UNEVEN], [1, 2, 4]),
        ([{"box": np.zeros((0, 4))}, MASK, MASK], [4]),
        ([MASK, {"box": BOXES[:2]}, {"box": BOXES[:1]}], [2, 3]),
        ([], []),
    ],
)
def test_prompts_of_several_images(
    predictor: Predictor, prompts: Any, calls: list[int], options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [predictor.encode(image) for image in pictures()][: len(prompts)]
    expected = [predictor.predict_batch(**p, **options, image=i) for i, p in zip(images, prompts, strict=True)]
    decode, seen = Decoding._call, []

    def spy(self: Decoding, requests: Any, parts: Any, weights: Any) -> Any:
        seen.append(sum(len(part) for _, part in parts))
        return decode(self, requests, parts, weights)

    monkeypatch.setattr(Decoding, "_call", spy)
    answers = predictor.predict_images(list(zip(images, prompts, strict=True)), **options)
    assert sorted(seen) == sorted(calls)
    for got, alone in zip(answers, expected, strict=True):
        assert [array.shape for array in got] == [array.shape for array in alone]
        np.testing.assert_allclose(got[1], alone[1], **CLOSE)
        np.testing.assert_allclose(got[2], alone[2], **CLOSE)


def test_refinement_is_the_last_logits_again(predictor: Predictor) -> None:
    predictor.set_image(pictures()[0])
    masks, iou, logits = predictor.predict_batch(box=BOXES)
    best = np.arange(3), iou.argmax(axis=1)
    first = masks[best][:, None], iou[best][:, None], logits[best][:, None]
    second = predictor.predict_batch(box=BOXES, mask_input=first[2], multimask_output=False)
    third = predictor.predict_batch(box=BOXES, mask_input=second[2], multimask_output=False)
    for rounds, expected in enumerate((first, second, third), start=1):
        for got, array in zip(predictor.refine(box=BOXES, rounds=rounds), expected, strict=True):
            np.testing.assert_array_equal(got, array)
    assert np.abs(second[2] - first[2]).max() > 0.01
    assert len(predictor.refine(box=[])[0]) == 0
    assert predictor.refine(**UNEVEN, rounds=3)[0].shape == (3, 1, 60, 80)


def test_what_is_refused(predictor: Predictor) -> None:
    encoded = predictor.encode(pictures()[0])
    with pytest.raises(PromptError, match=r"prompts\[1\]: got str, expected what predictor"):
        predictor.predict_images([(encoded, {"box": BOXES}), ("a.png", {"box": BOXES})])  # type: ignore[list-item]
    with pytest.raises(PromptError, match=r"prompts\[0\]: got boxes, expected some of"):
        predictor.predict_images([(encoded, {"boxes": BOXES})])
    with pytest.raises(PromptError, match="no prompt"):
        predictor.predict_images([(encoded, {})])
    with pytest.raises(ConfigError, match="rounds: got 0"):
        predictor.refine(box=BOXES, rounds=0, image=encoded)
