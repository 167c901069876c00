"""The whole model: image encoder, HQ fusion, prompt encoder, token fusion, mask decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samhq_runtime.contract import NO_FUSION, SAM

from ..architecture import Architecture
from .image_encoder import ImageEncoder
from .mask_decoder import HqFusion, HqMaskDecoder, MaskDecoder, WithHqMask
from .prompt_encoder import PromptEncoder
from .tiny_vit import TinyViTEncoder
from .token_fusion import TOKEN_FUSION_MODULES


class PlainSam(nn.Module):
    """SAM without the HQ part, of the given sizes."""

    fusion_mode = NO_FUSION
    family = SAM

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.image_encoder: nn.Module = self._image_encoder(arch)
        self.prompt_encoder = PromptEncoder(arch)
        self.mask_decoder = self._mask_decoder(arch)

    def _image_encoder(self, arch: Architecture) -> nn.Module:
        return TinyViTEncoder(arch) if arch.stages else ImageEncoder(arch)

    def _mask_decoder(self, arch: Architecture) -> MaskDecoder:
        return MaskDecoder(arch)

    @property
    def has_hq(self) -> bool:
        """Whether there is an HQ token."""
        return self.fusion_mode != NO_FUSION

    def encoder_constants(self) -> dict[str, Tensor]:
        """What `encode_image` computes from the weights alone, by the name of the argument that hands it in."""
        return {}

    def encode_image(self, input_image: Tensor) -> tuple[Tensor, ...]:
        """`input_image` (B,3,S,S), normalised and padded -> `image_embeddings`."""
        return self.image_encoder(input_image)[:1]

    def decoder_constants(self) -> dict[str, Tensor]:
        """What `decode_masks` computes from the weights alone, by the name of the argument that hands it in."""
        return {"image_pe": self.prompt_encoder.dense_pe()}

    def decode_masks(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        image_index: Tensor,
        mask_weights: Tensor,
        *,
        image_pe: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """The mask decoder graph's arithmetic; shapes and frames as in `samhq_runtime.contract`.

        `image_pe` (1,G*G,C) is the positional encoding of the embedding grid, for callers that computed it before.
        """
        image_pe = self.prompt_encoder.dense_pe() if image_pe is None else image_pe
        prompts = (point_coords, point_labels, mask_input, has_mask_input)
        image_tokens, sparse = self.prompted(image_embeddings, image_index, image_pe, prompts)
        return self.mask_decoder(image_tokens, image_pe, sparse, mask_weights)

    def prompted(
        self, image_embeddings: Tensor, image_index: Tensor, image_pe: Tensor, prompts: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """What the decoder starts from: image tokens (B,G*G,C), the dense prompt added, and sparse prompts (B,N,C).

        Args:
            image_embeddings: (I,C,G,G).
            image_index: (B,), each prompt's image.
            image_pe: (1,G*G,C).
            prompts: what `PromptEncoder` takes.
        """
        sparse, dense = self.prompt_encoder(*prompts)
        _, positions, channels = image_pe.shape
        per_image = image_embeddings.reshape(-1, channels, positions).transpose(1, 2)
        return torch.index_select(per_image, 0, image_index) + dense, sparse


class WithHqToken(PlainSam):
    """What SAM-HQ and HQ-SAM 2 add to a model: an HQ token, fused with SAM's output token.

    `token_fusion` is a key of `architecture.TOKEN_FUSIONS`.
    """

    mask_decoder: WithHqMask

    def __init__(self, arch: Architecture, *, token_fusion: str = "independent") -> None:
        super().__init__(arch)
        self.fusion_mode = token_fusion
        self.token_fusion = TOKEN_FUSION_MODULES[token_fusion]()

    def sam_token(self) -> Tensor:
        """(1,C): the single-mask output token, which the HQ token is fused with."""
        return self.mask_decoder.mask_tokens.weight[:1]

    def decoder_constants(self) -> dict[str, Tensor]:
        return {**super().decoder_constants(), "sam_token": self.sam_token()}

    def fused_token(self, sam_token: Tensor | None, hq_token: Tensor | None) -> Tensor:
        """(1,C): the learned tokens, or those given in their place, fused."""
        return self.token_fusion(
            self.sam_token() if sam_token is None else sam_token,
            self.mask_decoder.hq_token.weight if hq_token is None else hq_token,
        )


class Sam(WithHqToken):
    """SAM-HQ of the given sizes."""

    mask_decoder: HqMaskDecoder

    def __init__(self, arch: Architecture, *, token_fusion: str = "independent") -> None:
        super().__init__(arch, token_fusion=token_fusion)
        self.hq_fusion = HqFusion(arch)

    def _mask_decoder(self, arch: Architecture) -> MaskDecoder:
        return HqMaskDecoder(arch)

    def encode_image(self, input_image: Tensor) -> tuple[Tensor, Tensor]:
        """`input_image` (B,3,S,S), normalised and padded -> `image_embeddings`, `hq_features`."""
        image_embeddings, early = self.image_encoder(input_image)
        return image_embeddings, self.hq_fusion(image_embeddings, early)

    def decode_masks(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        hq_features: Tensor,
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
        """As `PlainSam.decode_masks`; `hq_token` (1,C) and `sam_token` (1,C) stand in for the learned ones."""
        image_pe = self.prompt_encoder.dense_pe() if image_pe is None else image_pe
        prompts = (point_coords, point_labels, mask_input, has_mask_input)
        image_tokens, sparse = self.prompted(image_embeddings, image_index, image_pe, prompts)
        hq_features = torch.index_select(hq_features, 0, image_index)
        fused = self.fused_token(sam_token, hq_token)
        return self.mask_decoder(image_tokens, hq_features, image_pe, sparse, fused, mask_weights)
