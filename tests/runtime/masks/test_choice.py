"""Which masks are asked for and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samhq_runtime.contract import SAM2, ModelSizes
from samhq_runtime.errors import PromptError
from samhq_runtime.masks.choice import MaskChoice

HQ = ModelSizes(image_size=16, embedding_size=1, embed_dim=8, token_masks=5)
PLAIN = dataclasses.replace(HQ, token_masks=4)


@pytest.mark.parametrize(
    ("multimask_output", "hq_token_only", "expected"),
    [
        (False, False, [[1, 0, 0, 0, 1]]),
        (True, False, [[0, 1, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, 0, 1, 1]]),
        (False, True, [[0, 0, 0, 0, 1]]),
        (True, True, [[0, 0, 0, 0, 1]]),
    ],
)
def test_mask_weights(multimask_output: bool, hq_token_only: bool, expected: list[list[int]]) -> None:
    got = MaskChoice(sizes=HQ, multimask_output=multimask_output, hq_token_only=hq_token_only).weights()
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("token_masks", [5, 4])
@pytest.mark.parametrize(
    ("multimask_output", "expected"),
    [(False, [[1, 0, 0, 0, 0]]), (True, [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]])],
)
def test_sam_tokens_only(multimask_output: bool, expected: list[list[int]], token_masks: int) -> None:
    sizes = dataclasses.replace(HQ, token_masks=token_masks)
    got = MaskChoice(sizes=sizes, multimask_output=multimask_output, sam_tokens_only=True).weights()
    np.testing.assert_array_equal(got, np.array(expected)[:, :token_masks])
    with pytest.raises(PromptError, match="got both"):
        MaskChoice(sizes=sizes, multimask_output=multimask_output, sam_tokens_only=True, hq_token_only=True)


@pytest.mark.parametrize(
    ("multimask_output", "expected"),
    [(False, [[1, 0, 0, 0]]), (True, [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])],
)
def test_plain_sam_has_no_hq_column(multimask_output: bool, expected: list[list[int]]) -> None:
    got = MaskChoice(sizes=PLAIN, multimask_output=multimask_output).weights()
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(PromptError, match="plain SAM without HQ part"):
        MaskChoice(sizes=PLAIN, multimask_output=multimask_output, hq_token_only=True)


def test_plain_sam_returns_every_candidate() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    masks, quality = MaskChoice(sizes=PLAIN, multimask_output=True).choose(logits, IOU)
    np.testing.assert_array_equal(masks, logits)
    np.testing.assert_array_equal(quality, IOU[:, 1:])


IOU = np.array([[0.9, 0.1, 0.3, 0.2], [0.1, 0.8, 0.2, 0.8], [0.0, 0.1, 0.2, 0.3]], np.float32)


@pytest.mark.parametrize(
    ("candidates", "multimask_output", "kept", "iou"),
    [
        (1, False, [0, 0, 0], [0.9, 0.1, 0.0]),  # the single-mask token, whatever the others promise
        (3, True, [1, 0, 2], [0.3, 0.8, 0.3]),  # a tie goes to the first
        (1, True, [0, 0, 0], [0.3, 0.8, 0.3]),  # the HQ mask alone, with the best candidate's IoU
    ],
)
def test_choose(candidates: int, multimask_output: bool, kept: list[int], iou: list[float]) -> None:
    logits = np.random.default_rng(0).normal(size=(3, candidates, 4, 4)).astype(np.float32)
    mask, quality = MaskChoice(sizes=HQ, multimask_output=multimask_output).choose(logits, IOU)
    assert mask.shape == (3, 1, 4, 4)
    np.testing.assert_array_equal(mask[:, 0], logits[[0, 1, 2], kept])
    np.testing.assert_allclose(quality, np.array(iou, np.float32)[:, None])


def stable_and_not() -> NDArray[np.float32]:
    """Token masks (2,5,10,10) of two prompts: the single mask of the first is stable, that of the second just not."""
    logits = np.random.default_rng(0).normal(size=(2, 5, 10, 10)).astype(np.float32)
    logits[:, 0] = -1
    logits[:, 0, :5] = 1
    logits[1, 0, 0, :2] = 0  # 48 of 50 pixels: 0.96
    return logits


@pytest.mark.parametrize(
    ("options", "rows", "kept"),
    [
        ({}, slice(None), lambda logits, row, token: logits[row, token] + logits[row, 4]),
        ({"sam_tokens_only": True}, slice(0, 4), lambda logits, row, token: logits[row, token]),
        ({"hq_token_only": True}, [0, 4], lambda logits, row, token: logits[row, 4]),
    ],
)
def test_sam2_falls_back_where_the_single_mask_is_not_stable(
    options: dict[str, bool], rows: Any, kept: Callable[..., NDArray[np.float32]]
) -> None:
    choice = MaskChoice(sizes=dataclasses.replace(HQ, family=SAM2), multimask_output=False, **options)
    np.testing.assert_array_equal(choice.weights(), np.eye(5)[rows])
    logits = stable_and_not()
    masks, quality = choice.choose(logits[:, rows], IOU[:2])
    for row, token in enumerate((0, 1)):  # the best candidate of the second is the first one, of the same IoU
        np.testing.assert_array_equal(masks[row, 0], kept(logits, row, token))
        assert quality[row, 0] == IOU[row, token]


def test_no_logit_above_zero_is_stable() -> None:
    choice = MaskChoice(sizes=dataclasses.replace(PLAIN, family=SAM2), multimask_output=False)
    masks, _ = choice.choose(np.full((1, 4, 2, 2), -1, np.float32) * np.arange(1, 5)[None, :, None, None], IOU[:1])
    assert (masks == -1).all()


@pytest.mark.parametrize(("options", "masks"), [({}, 3), ({"hq_token_only": True}, 1), ({"sam_tokens_only": True}, 3)])
def test_sam2_returns_every_candidate(options: dict[str, bool], masks: int) -> None:
    choice = MaskChoice(sizes=dataclasses.replace(HQ, family=SAM2), multimask_output=True, **options)
    logits = np.zeros((2, len(choice.weights()), 4, 4), np.float32)
    kept, quality = choice.choose(logits, IOU[:2])
    assert kept.shape[1] == choice.masks == masks
    np.testing.assert_array_equal(quality, IOU[:2, 1:] if masks == 3 else IOU[:2, 1:].max(axis=1, keepdims=True))
