"""The mask decoder of SAM 2 and HQ-SAM 2: that of SAM with an object score, and features of high resolution.

Parameter names follow `sam2.modeling.sam.mask_decoder` with `hf_` spelt `hq_`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samhq_runtime.contract import NUM_SAM_TOKENS

from ..architecture import Architecture
from .layers import MLP, LayerNorm2d, upsample_pixels
from .mask_decoder import MaskDecoder, WithHqMask, raster

HighResFeats = tuple[Tensor, Tensor]


class Sam2MaskDecoder(MaskDecoder):
    """SAM 2's own decoder: a token for the object score before those of SAM."""

    first_mask_token = 2

    def __init__(self, arch: Architecture) -> None:
        super().__init__(arch)
        dim = arch.embed_dim
        self.obj_score_token = nn.Embedding(1, dim)
        self.pred_obj_score_head = MLP((dim, dim, dim, 1))
        self.iou_prediction_head = IouHead((dim, arch.iou_head_dim, arch.iou_head_dim, NUM_SAM_TOKENS))

    def forward(  # type: ignore[override]
        self,
        image_tokens: Tensor,
        high_res_feats: HighResFeats,
        image_pe: Tensor,
        sparse_prompts: Tensor,
        mask_weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `HqSam2MaskDecoder.forward`, with `mask_weights` (K, 4)."""
        tokens, upscaled = self.attend_sam2(self.sam_tokens(), image_tokens, image_pe, sparse_prompts, high_res_feats)
        return (self.masks(tokens, upscaled, mask_weights), *self.scores(tokens))

    def sam_tokens(self) -> Tensor:
        """(6,C): the learned tokens."""
        return torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])

    def scores(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens after attention -> `iou_predictions` (B,4), `object_score_logits` (B,1)."""
        return self.iou_prediction_head(tokens[:, 1]), self.pred_obj_score_head(tokens[:, 0])

    def attend_sam2(
        self,
        output_tokens: Tensor,
        image_tokens: Tensor,
        image_pe: Tensor,
        sparse_prompts: Tensor,
        high_res_feats: HighResFeats,
    ) -> tuple[Tensor, Tensor]:
        """As `attend`; high_res_feats, one per prompt, as `Sam2.decode_masks` prepares them."""
        tokens, image_tokens = self.meet(output_tokens, image_tokens, image_pe, sparse_prompts)
        feats_0, feats_1 = high_res_feats
        conv1, norm, act, conv2 = list(self.output_upscaling)[:4]
        assert isinstance(conv1, nn.ConvTranspose2d)
        assert isinstance(norm, LayerNorm2d)
        assert isinstance(conv2, nn.ConvTranspose2d)
        pixels = upsample_pixels(image_tokens.reshape(-1, conv1.in_channels), conv1)
        pixels = act(norm.channels_last(pixels + feats_1.reshape(-1, conv1.out_channels)))
        return tokens, F.gelu(raster(upsample_pixels(pixels, conv2), self.grid) + feats_0)


class HqSam2MaskDecoder(WithHqMask, Sam2MaskDecoder):
    """HQ-SAM 2's own decoder. Unlike in SAM-HQ the HQ mask's features come of the upscaled pixels alone, so nothing of
    the HQ part is in the image encoder.
    """

    def forward(  # type: ignore[override]
        self,
        image_tokens: Tensor,
        high_res_feats: HighResFeats,
        image_pe: Tensor,
        sparse_prompts: Tensor,
        hq_output_token: Tensor,
        mask_weights: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks, their predicted quality, and whether there is an object, for B prompts.

        Args:
            image_tokens: (B, G*G, C) image embeddings of each prompt's image plus its dense prompt.
            high_res_feats: (B, 4G, 4G, C/8) and (B, G*G*4, C/4), one per prompt.
            image_pe: (1, G*G, C).
            sparse_prompts: (B, N, C).
            hq_output_token: (1, C), already fused with the SAM token.
            mask_weights: (K, 5), how each of the K masks is made of the 4 SAM token masks and the HQ token mask.

        Returns:
            `low_res_logits` (B, K, 4G, 4G), `iou_predictions` (B, 4) of the SAM tokens, `object_score_logits` (B, 1).
        """
        output_tokens = torch.cat([self.sam_tokens(), hq_output_token])
        tokens, upscaled = self.attend_sam2(output_tokens, image_tokens, image_pe, sparse_prompts, high_res_feats)
        return (self.masks(tokens, upscaled, mask_weights), *self.scores(tokens))


class IouHead(MLP):
    """Predicted IoU, which SAM 2 squashes to between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x))
