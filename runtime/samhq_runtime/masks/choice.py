"""Which token masks to compute, and which to keep. `token_masks` is how many the model has: 5, or 4 of a plain SAM."""

from __future__ import annotations

import numpy as np

from ..contract import NUM_SAM_TOKENS, Float32
from ..errors import PromptError

# Rows pick token masks: columns are SAM's single-mask token, its three multimask tokens, the HQ token. A plain SAM
# has no last column.
_SINGLE_PLUS_HQ = ((1, 0, 0, 0, 1),)
_HQ_ONLY = ((0, 0, 0, 0, 1),)
_MULTIMASK_PLUS_HQ = ((0, 1, 0, 0, 1), (0, 0, 1, 0, 1), (0, 0, 0, 1, 1))
_MULTIMASK_TOKENS = slice(1, 4)


def mask_weights(
    *, multimask_output: bool, hq_token_only: bool, sam_tokens_only: bool = False, token_masks: int
) -> Float32:
    """(K, token_masks) combinations for the decoder to compute, as `MaskDecoderHQ.forward` forms them.

    Raises:
        PromptError: `hq_token_only` of a model that has no HQ token, or together with `sam_tokens_only`.
    """
    if hq_token_only and sam_tokens_only:
        raise PromptError("hq_token_only and sam_tokens_only: got both, which leaves no mask; choose one")
    rows = _MULTIMASK_PLUS_HQ if multimask_output else _SINGLE_PLUS_HQ
    if hq_token_only:
        require_hq("hq_token_only", token_masks=token_masks)
        rows = _HQ_ONLY
    weights = np.array(rows, np.float32)[:, :token_masks]
    if sam_tokens_only:
        weights[:, NUM_SAM_TOKENS:] = 0
    return weights


def every_token_mask(token_masks: int) -> Float32:
    """`mask_weights` that compute each token mask by itself."""
    return np.eye(token_masks, dtype=np.float32)


def require_hq(option: str, *, token_masks: int) -> None:
    """Raise PromptError if `option` is about an HQ token that the model does not have."""
    if token_masks == NUM_SAM_TOKENS:
        raise PromptError(f"{option}: the bundle is of a plain SAM without HQ part; leave it out")


def choose(
    low_res_logits: Float32, iou_predictions: Float32, *, multimask_output: bool, token_masks: int
) -> tuple[Float32, Float32]:
    """The masks a caller gets, and their predicted IoU: (B,K,L,L), (B,4) -> (B,M,L,L), (B,M).

    M is 1, or 3 for `multimask_output` of a plain SAM: it returns every candidate, SAM-HQ the one of the highest
    predicted IoU.
    """
    if not multimask_output:
        return low_res_logits, iou_predictions[:, :1]
    candidates = iou_predictions[:, _MULTIMASK_TOKENS]
    if token_masks == NUM_SAM_TOKENS:
        return low_res_logits, candidates
    best = candidates.argmax(axis=1)
    rows = np.arange(len(best))
    kept = low_res_logits if low_res_logits.shape[1] == 1 else low_res_logits[rows, best][:, None]
    return kept, candidates[rows, best][:, None]
