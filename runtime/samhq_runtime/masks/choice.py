"""Which token masks to compute, and which to keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract import NUM_SAM_TOKENS, Float32, Int64, ModelSizes, Stability
from ..errors import PromptError

# Rows pick token masks: columns are SAM's single-mask token, its three multimask tokens, the HQ token. A plain SAM
# has no last column.
_SINGLE_PLUS_HQ = ((1, 0, 0, 0, 1),)
_HQ_ONLY = ((0, 0, 0, 0, 1),)
_MULTIMASK_PLUS_HQ = ((0, 1, 0, 0, 1), (0, 0, 1, 0, 1), (0, 0, 0, 1, 1))
_MULTIMASK_TOKENS = slice(1, NUM_SAM_TOKENS)


@dataclass(frozen=True, kw_only=True)
class MaskChoice:
    """What a caller wants of the masks of a model of `sizes`.

    Raises:
        PromptError: `hq_token_only` of a model that has no HQ token, or together with `sam_tokens_only`.
    """

    sizes: ModelSizes
    multimask_output: bool
    hq_token_only: bool = False
    sam_tokens_only: bool = False

    def __post_init__(self) -> None:
        if self.hq_token_only and self.sam_tokens_only:
            raise PromptError("hq_token_only and sam_tokens_only: got both, which leaves no mask; choose one")
        if self.hq_token_only:
            require_hq("hq_token_only", token_masks=self.sizes.token_masks)

    @property
    def masks(self) -> int:
        """How many masks an object gets."""
        if not self.multimask_output or (self.sizes.has_hq and not self.sizes.rules.every_candidate):
            return 1
        return 1 if self.hq_token_only else NUM_SAM_TOKENS - 1

    def weights(self) -> Float32:
        """(K, token masks) combinations for the decoder to compute, as upstream's mask decoder forms them."""
        if self._falls_back:
            every = every_token_mask(self.sizes.token_masks)
            if self.hq_token_only:
                return every[[0, NUM_SAM_TOKENS]]
            return every if self._adds_hq else every[:NUM_SAM_TOKENS]
        rows = _MULTIMASK_PLUS_HQ if self.multimask_output else _SINGLE_PLUS_HQ
        weights = np.array(_HQ_ONLY if self.hq_token_only else rows, np.float32)[:, : self.sizes.token_masks]
        if self.sam_tokens_only:
            weights[:, NUM_SAM_TOKENS:] = 0
        return weights

    def choose(self, low_res_logits: Float32, iou_predictions: Float32) -> tuple[Float32, Float32]:
        """The masks a caller gets, and their predicted IoU: (B,K,L,L), (B,4) -> (B,M,L,L), (B,M).

        M is 1, or 3 for `multimask_output` of a plain SAM, which returns every candidate, as HQ-SAM 2 does. SAM-HQ
        returns the one of the highest predicted IoU. The HQ mask alone goes with that IoU (HQ-SAM 2's predictor returns
        it with all three).
        """
        if self._falls_back:
            return self._with_fallback(low_res_logits, iou_predictions)
        if not self.multimask_output:
            return low_res_logits, iou_predictions[:, :1]
        candidates = iou_predictions[:, _MULTIMASK_TOKENS]
        if self.masks > 1:
            return low_res_logits, candidates
        best = candidates.argmax(axis=1)
        rows = np.arange(len(best))
        kept = low_res_logits if low_res_logits.shape[1] == 1 else low_res_logits[rows, best][:, None]
        return kept, candidates[rows, best][:, None]

    @property
    def _adds_hq(self) -> bool:
        return self.sizes.has_hq and not self.sam_tokens_only

    @property
    def _falls_back(self) -> bool:
        return self.sizes.rules.stability is not None and not self.multimask_output

    def _with_fallback(self, low_res_logits: Float32, iou_predictions: Float32) -> tuple[Float32, Float32]:
        """Every token mask by itself -> the single mask, or the best candidate where that is not stable; then HQ."""
        assert self.sizes.rules.stability is not None
        chosen = _stable_or_best(low_res_logits[:, 0], iou_predictions, self.sizes.rules.stability)
        rows = np.arange(len(chosen))
        quality = iou_predictions[rows, chosen][:, None]
        if self.hq_token_only:
            return low_res_logits[:, 1:], quality
        kept = low_res_logits[rows, chosen][:, None]
        return kept + low_res_logits[:, NUM_SAM_TOKENS:] if self._adds_hq else kept, quality


def every_token_mask(token_masks: int) -> Float32:
    """`mask_weights` that compute each token mask by itself."""
    return np.eye(token_masks, dtype=np.float32)


def require_hq(option: str, *, token_masks: int) -> None:
    """Raise PromptError if `option` is about an HQ token that the model does not have."""
    if token_masks == NUM_SAM_TOKENS:
        raise PromptError(f"{option}: the bundle is of a plain SAM without HQ part; leave it out")


def _stable_or_best(single: Float32, iou_predictions: Float32, stability: Stability) -> Int64:
    """(B,L,L) logits of the single mask, (B,4) -> (B,) the token whose mask is used."""
    inside = (single > stability.delta).sum(axis=(1, 2)).astype(np.float32)
    around = (single > -stability.delta).sum(axis=(1, 2)).astype(np.float32)
    stable = np.where(around > 0, inside / np.maximum(around, 1), 1) >= np.float32(stability.threshold)
    best = iou_predictions[:, _MULTIMASK_TOKENS].argmax(axis=1) + _MULTIMASK_TOKENS.start
    return np.where(stable, 0, best)
