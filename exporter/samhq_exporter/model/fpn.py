"""SAM 2's image encoder: Hiera, the feature pyramid, and the features of high resolution that the decoder takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import Architecture
from .hiera import HieraTrunk


class HieraEncoder(nn.Module):
    """`input_image` (B,3,S,S) -> `image_embeddings` (B,C,G,G) and two `high_res_feats`, G = S/16."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.trunk = HieraTrunk(arch)
        self.neck = PyramidNeck(arch)

    def forward(self, input_image: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.neck(self.trunk(input_image, positions))


class PyramidNeck(nn.Module):
    """`sam2.modeling.backbones.image_encoder.FpnNeck`, and what upstream does to its outputs before a prompt is known.

    Only the level of `image_embeddings` gets anything from the level below. `conv_s0` and `conv_s1`, which upstream
    keeps in the mask decoder, follow on another 1x1 convolution, so both are one product here.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        dim, widths = arch.embed_dim, [arch.encoder_dim << stage for stage in range(4)]
        self.grid = arch.embedding_size
        self.convs = nn.ModuleList(Lateral(width, dim) for width in reversed(widths))  # the lowest resolution first
        self.conv_s0 = nn.Conv2d(dim, dim // 8, 1)
        self.conv_s1 = nn.Conv2d(dim, dim // 4, 1)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, dim))  # of images that no video precedes

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs of the trunk's stages -> (B,C,G,G), (B,C/8,4G,4G), (B,C/4,2G,2G)."""
        lowest, low, middle, high = self.convs
        above = low(stages[2]) + self.no_mem_embed
        image_embeddings = _add_enlarged(above, lowest(stages[3]), self.grid)
        assert isinstance(high, Lateral)
        assert isinstance(middle, Lateral)
        feats_0 = high.followed_by(self.conv_s0, stages[0])
        feats_1 = middle.followed_by(self.conv_s1, stages[1])
        return (
            _as_image(image_embeddings, self.grid),
            _as_image(feats_0, 4 * self.grid),
            _as_image(feats_1, 2 * self.grid),
        )


class Lateral(nn.Module):
    """A 1x1 convolution as a product on tokens, (B,N,D) -> (B,N,C)."""

    def __init__(self, dim: int, embed_dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, embed_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.conv.weight.flatten(1), self.conv.bias)

    def followed_by(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """x (B,N,D) through this and another 1x1 convolution, multiplied beforehand."""
        assert self.conv.bias is not None
        assert conv.bias is not None
        weight = conv.weight.flatten(1)
        return F.linear(x, weight @ self.conv.weight.flatten(1), conv.bias + weight @ self.conv.bias)


def _add_enlarged(x: Tensor, half: Tensor, grid: int) -> Tensor:
    """x (B,grid^2,C) and, each of its pixels twice along both axes, half (B,(grid/2)^2,C)."""
    channels, side = int(x.shape[-1]), grid // 2
    pairs = x.reshape(-1, side, 2, side, 2, channels) + half.reshape(-1, side, 1, side, 1, channels)
    return pairs.reshape(-1, grid**2, channels)


def _as_image(x: Tensor, side: int) -> Tensor:
    """(B,side^2,C) -> (B,C,side,side)."""
    return x.transpose(1, 2).reshape(-1, int(x.shape[-1]), side, side)
