"""The whole model: image encoder, HQ fusion, prompt encoder, token fusion, mask decoder."""

from __future__ import annotations

from torch import Tensor, nn

from samhq_runtime.contract import NO_FUSION

from ..architecture import Architecture
from .image_encoder import ImageEncoder
from .mask_decoder import HqFusion, HqMaskDecoder, MaskDecoder
from .prompt_encoder import PromptEncoder
from .tiny_vit import TinyViTEncoder
from .token_fusion import TOKEN_FUSIONS


class PlainSam(nn.Module):
    """SAM without the HQ part, of the given sizes."""

    fusion_mode = NO_FUSION

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.image_encoder = TinyViTEncoder(arch) if arch.stages else ImageEncoder(arch)
        self.prompt_encoder = PromptEncoder(arch)
        self.mask_decoder = self._mask_decoder(arch)

    def _mask_decoder(self, arch: Architecture) -> MaskDecoder:
        return MaskDecoder(arch)

    def encode_image(self, input_image: Tensor) -> tuple[Tensor, ...]:
        """`input_image` (B,3,S,S), normalised and padded -> `image_embeddings`."""
        return self.image_encoder(input_image)[:1]

    def decode_masks(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        image_index: Tensor,
        mask_weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The mask decoder graph's arithmetic; shapes and frames as in `samhq_runtime.contract`."""
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input, has_mask_input)
        image_tokens = image_embeddings.flatten(2).transpose(1, 2)[image_index] + dense
        return self.mask_decoder(image_tokens, self.prompt_encoder.dense_pe(), sparse, mask_weights)


class Sam(PlainSam):
    """SAM-HQ of the given sizes, with `token_fusion` one of `TOKEN_FUSIONS`."""

    mask_decoder: HqMaskDecoder

    def __init__(self, arch: Architecture, *, token_fusion: str = "independent") -> None:
        super().__init__(arch)
        self.fusion_mode = token_fusion
        self.hq_fusion = HqFusion(arch)
        self.token_fusion = TOKEN_FUSIONS[token_fusion]()

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
    ) -> tuple[Tensor, Tensor]:
        """The mask decoder graph's arithmetic; shapes and frames as in `samhq_runtime.contract`."""
        decoder = self.mask_decoder
        hq_token = decoder.hq_token.weight if hq_token is None else hq_token
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input, has_mask_input)
        image_tokens = image_embeddings.flatten(2).transpose(1, 2)[image_index] + dense
        return decoder(
            image_tokens,
            hq_features[image_index],
            self.prompt_encoder.dense_pe(),
            sparse,
            self.token_fusion(decoder.mask_tokens.weight[:1], hq_token),
            mask_weights,
        )
