"""Which masks are asked for and kept."""

from __future__ import annotations

import numpy as np
import pytest

from samhq_runtime.errors import PromptError
from samhq_runtime.masks.choice import choose, mask_weights


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
    got = mask_weights(multimask_output=multimask_output, hq_token_only=hq_token_only, token_masks=5)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("token_masks", [5, 4])
@pytest.mark.parametrize(
    ("multimask_output", "expected"),
    [(False, [[1, 0, 0, 0, 0]]), (True, [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]])],
)
def test_sam_tokens_only(multimask_output: bool, expected: list[list[int]], token_masks: int) -> None:
    options = {"multimask_output": multimask_output, "sam_tokens_only": True, "token_masks": token_masks}
    got = mask_weights(**options, hq_token_only=False)
    np.testing.assert_array_equal(got, np.array(expected)[:, :token_masks])
    with pytest.raises(PromptError, match="got both"):
        mask_weights(**options, hq_token_only=True)


@pytest.mark.parametrize(
    ("multimask_output", "expected"),
    [(False, [[1, 0, 0, 0]]), (True, [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])],
)
def test_plain_sam_has_no_hq_column(multimask_output: bool, expected: list[list[int]]) -> None:
    got = mask_weights(multimask_output=multimask_output, hq_token_only=False, token_masks=4)
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(PromptError, match="plain SAM without HQ part"):
        mask_weights(multimask_output=multimask_output, hq_token_only=True, token_masks=4)


def test_plain_sam_returns_every_candidate() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    masks, quality = choose(logits, IOU, multimask_output=True, token_masks=4)
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
    mask, quality = choose(logits, IOU, multimask_output=multimask_output, token_masks=5)
    assert mask.shape == (3, 1, 4, 4)
    np.testing.assert_array_equal(mask[:, 0], logits[[0, 1, 2], kept])
    np.testing.assert_allclose(quality, np.array(iou, np.float32)[:, None])
