"""The two traced modules: thin shells around `Sam` whose arguments and results are the IO contract's tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samhq_runtime.contract import (
    NUM_SAM_TOKENS,
    NUM_TOKEN_MASKS,
    GraphSpec,
    ModelSizes,
    image_encoder_spec,
    mask_decoder_spec,
)

from ..model import PlainSam, Sam


@dataclass(frozen=True)
class Graph:
    """A module to trace, the contract it fulfils, and the inputs whose traced value becomes their default."""

    spec: GraphSpec
    module: nn.Module
    defaults: dict[str, Tensor]


def graphs_of(sam: PlainSam) -> tuple[Graph, Graph]:
    """Image encoder and mask decoder of `sam`, to be traced in float32."""
    sizes = model_sizes(sam)
    encoder, decoder = image_encoder_spec(sizes), mask_decoder_spec(sizes)
    if not isinstance(sam, Sam):
        return Graph(encoder, PlainImageEncoderGraph(sam), {}), Graph(decoder, PlainMaskDecoderGraph(sam), {})
    hq_token = sam.mask_decoder.hq_token.weight.detach()
    return (
        Graph(encoder, ImageEncoderGraph(sam), {}),
        Graph(decoder, MaskDecoderGraph(sam), {"hq_token": hq_token}),
    )


def model_sizes(sam: PlainSam) -> ModelSizes:
    arch = sam.arch
    return ModelSizes(
        image_size=arch.image_size,
        embedding_size=arch.embedding_size,
        embed_dim=arch.embed_dim,
        token_masks=NUM_TOKEN_MASKS if isinstance(sam, Sam) else NUM_SAM_TOKENS,
    )


class PlainImageEncoderGraph(nn.Module):
    """The image encoder of a plain SAM."""

    def __init__(self, sam: PlainSam) -> None:
        super().__init__()
        self.image_encoder = sam.image_encoder

    def forward(self, input_image: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.image_encoder(input_image)[0]


class ImageEncoderGraph(PlainImageEncoderGraph):
    def __init__(self, sam: Sam) -> None:
        super().__init__(sam)
        self.hq_fusion = sam.hq_fusion

    def forward(self, input_image: Tensor) -> tuple[Tensor, ...]:
        image_embeddings, early = self.image_encoder(input_image)
        return image_embeddings, self.hq_fusion(image_embeddings, early)


class PlainMaskDecoderGraph(nn.Module):
    """`PlainSam.decode_masks` with what never changes computed once."""

    image_pe: Tensor

    def __init__(self, sam: PlainSam) -> None:
        super().__init__()
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.register_buffer("image_pe", sam.prompt_encoder.dense_pe().detach())

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        image_index: Tensor,
        mask_weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input, has_mask_input)
        image_tokens = self.image_tokens(image_embeddings, image_index) + dense
        return self.mask_decoder(image_tokens, self.image_pe, sparse, mask_weights)

    def image_tokens(self, image_embeddings: Tensor, image_index: Tensor) -> Tensor:
        """(I,C,G,G), (B,) -> (B,G*G,C): each prompt's image."""
        per_image = image_embeddings.reshape(-1, *self.image_pe.shape[:0:-1]).transpose(1, 2)  # (I, G*G, C)
        return torch.index_select(per_image, 0, image_index)


class MaskDecoderGraph(PlainMaskDecoderGraph):
    """`Sam.decode_masks` with what never changes computed once, and the SAM token as a tensor of its own.

    `hq_token` is an argument, so that the exported node `/token_fusion/Mul` keeps two visible operands.
    """

    sam_token: Tensor

    def __init__(self, sam: Sam) -> None:
        super().__init__(sam)
        self.token_fusion = sam.token_fusion
        self.register_buffer("sam_token", sam.mask_decoder.mask_tokens.weight[:1].detach().clone())

    def forward(  # type: ignore[override]
        self,
        image_embeddings: Tensor,
        hq_features: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        image_index: Tensor,
        mask_weights: Tensor,
        hq_token: Tensor,
    ) -> tuple[Tensor, Tensor]:
        sparse, dense = self.prompt_encoder(point_coords, point_labels, mask_input, has_mask_input)
        image_tokens = self.image_tokens(image_embeddings, image_index) + dense
        return self.mask_decoder(
            image_tokens,
            torch.index_select(hq_features, 0, image_index),
            self.image_pe,
            sparse,
            self.token_fusion(self.sam_token, hq_token),
            mask_weights,
        )
