"""The two traced modules: thin shells around `Sam` whose arguments and results are the IO contract's tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from samhq_runtime.contract import (
    NUM_SAM_TOKENS,
    NUM_TOKEN_MASKS,
    GraphSpec,
    ModelSizes,
    image_encoder_spec,
    mask_decoder_spec,
)

from ..model import PlainSam, WithHqToken

_ENCODER_PARTS = ("image_encoder", "hq_fusion")  # all others are the decoder's


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
    encoding = {name: part for name, part in sam.named_children() if name in _ENCODER_PARTS}
    decoding = {name: part for name, part in sam.named_children() if name not in _ENCODER_PARTS}
    defaults = {"hq_token": sam.mask_decoder.hq_token.weight.detach()} if isinstance(sam, WithHqToken) else {}
    return (
        Graph(encoder, TracedMethod(sam.encode_image, encoding, _copied(sam.encoder_constants())), {}),
        Graph(decoder, TracedMethod(sam.decode_masks, decoding, _copied(sam.decoder_constants())), defaults),
    )


def _copied(constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in constants.items()}


def model_sizes(sam: PlainSam) -> ModelSizes:
    arch = sam.arch
    return ModelSizes(
        image_size=arch.image_size,
        embedding_size=arch.embedding_size,
        embed_dim=arch.embed_dim,
        token_masks=NUM_TOKEN_MASKS if sam.has_hq else NUM_SAM_TOKENS,
        family=sam.family,
    )


class TracedMethod(nn.Module):
    """A method of `Sam` as a module: the parts it calls are children, the constants it is given are buffers.

    The tracer names nodes and weights after these. `/token_fusion/Mul` thus keeps two visible operands, `sam_token` and
    `hq_token`.
    """

    def __init__(
        self, method: Callable[..., Any], parts: Mapping[str, nn.Module], constants: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.method = method
        self.constants = tuple(constants)
        for name, part in parts.items():
            self.add_module(name, part)
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)

    def forward(self, *inputs: Tensor) -> Any:
        return self.method(*inputs, **{name: self.get_buffer(name) for name in self.constants})
