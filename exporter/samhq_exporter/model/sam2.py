"""SAM 2.1 and HQ-SAM 2 for images: image encoder, prompt encoder, token fusion, mask decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from samhq_runtime.contract import SAM2

from ..architecture import Architecture
from .fpn import HieraEncoder
from .mask_decoder import MaskDecoder
from .sam import PlainSam, WithHqToken
from .sam2_mask_decoder import HighResFeats, HqSam2MaskDecoder, Sam2MaskDecoder


class PlainSam2(PlainSam):
    """SAM 2.1 of the given sizes."""

    family = SAM2
    image_encoder: HieraEncoder

    def _image_encoder(self, arch: Architecture) -> HieraEncoder:
        return HieraEncoder(arch)

    def _mask_decoder(self, arch: Architecture) -> MaskDecoder:
        return Sam2MaskDecoder(arch)

    def encoder_constants(self) -> dict[str, Tensor]:
        return {"positions": self.image_encoder.trunk.positions()}

    def encode_image(self, input_image: Tensor, *, positions: Tensor | None = None) -> tuple[Tensor, ...]:
        """`input_image` (B,3,S,S) -> `image_embeddings`, `high_res_feats_0` (B,C/8,4G,4G), `_1` (B,C/4,2G,2G)."""
        return self.image_encoder(input_image, self.image_encoder.trunk.positions() if positions is None else positions)

    def decode_masks(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        image_index: Tensor,
        mask_weights: Tensor,
        *,
        image_pe: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        image_pe = self.prompt_encoder.dense_pe() if image_pe is None else image_pe
        prompts = (point_coords, point_labels, mask_input, has_mask_input)
        image_tokens, sparse = self.prompted(image_embeddings, image_index, image_pe, prompts)
        high_res_feats = self._per_prompt(high_res_feats_0, high_res_feats_1, image_index)
        return self.mask_decoder(image_tokens, high_res_feats, image_pe, sparse, mask_weights)

    def _per_prompt(self, feats_0: Tensor, feats_1: Tensor, image_index: Tensor) -> HighResFeats:
        """As the decoder adds them: channels last, and those of the lower resolution in its blocks of 2x2 pixels."""
        grid, channels = self.arch.embedding_size, self.arch.embed_dim // 4
        blocks = feats_1.reshape(-1, channels, grid, 2, grid, 2).permute(0, 2, 4, 3, 5, 1)
        lower = blocks.reshape(-1, 4 * grid**2, channels)
        return (
            torch.index_select(feats_0.permute(0, 2, 3, 1), 0, image_index),
            torch.index_select(lower, 0, image_index),
        )


class Sam2(WithHqToken, PlainSam2):
    """HQ-SAM 2 of the given sizes."""

    mask_decoder: HqSam2MaskDecoder

    def _mask_decoder(self, arch: Architecture) -> MaskDecoder:
        return HqSam2MaskDecoder(arch)

    def decode_masks(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        high_res_feats_0: Tensor,
        high_res_feats_1: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        image_index: Tensor,
        mask_weights: Tensor,
        hq_token: Tensor | None = None,
        *,
        image_pe: Tensor | None = None,
        sam_token: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """As `PlainSam2.decode_masks`; `hq_token` (1,C) and `sam_token` (1,C) stand in for the learned ones."""
        image_pe = self.prompt_encoder.dense_pe() if image_pe is None else image_pe
        prompts = (point_coords, point_labels, mask_input, has_mask_input)
        image_tokens, sparse = self.prompted(image_embeddings, image_index, image_pe, prompts)
        high_res_feats = self._per_prompt(high_res_feats_0, high_res_feats_1, image_index)
        fused = self.fused_token(sam_token, hq_token)
        return self.mask_decoder(image_tokens, high_res_feats, image_pe, sparse, fused, mask_weights)
