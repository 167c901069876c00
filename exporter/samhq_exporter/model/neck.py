"""The last layers of every SAM image encoder: encoder width -> `embed_dim`."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .layers import LayerNorm2d


class Neck(nn.ModuleList):
    """`ImageEncoderViT.neck` upstream: 1x1 convolution, norm, 3x3 convolution, norm; indices as in state dicts."""

    def __init__(self, dim: int, embed_dim: int) -> None:
        super().__init__(
            [
                nn.Conv2d(dim, embed_dim, 1, bias=False),
                LayerNorm2d(embed_dim),
                nn.Conv2d(embed_dim, embed_dim, 3, padding=1, bias=False),
                LayerNorm2d(embed_dim),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B,G,G,D) -> (B,C,G,G). The 1x1 convolution is a MatMul on tokens."""
        squeeze, norm1, conv, norm2 = self
        assert isinstance(squeeze, nn.Conv2d)
        assert isinstance(norm1, LayerNorm2d)
        x = norm1.channels_last(F.linear(x, squeeze.weight.flatten(1)))
        return norm2(conv(x.permute(0, 3, 1, 2)))
