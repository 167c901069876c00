"""Small layers shared by the encoder, the prompt encoder and the mask decoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of an NCHW tensor, through the native operator.

    Upstream writes mean and variance out; the native `LayerNormalization` keeps fp16 graphs accurate (its statistics
    are fp32 by definition) and is one layer in TensorRT.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def channels_last(self, x: Tensor) -> Tensor:
        """The same normalisation for a tensor whose last axis already is the channels."""
        return super().forward(x)


class MLPBlock(nn.Module):
    """Linear, activation, linear: the feed-forward part of a transformer block."""

    def __init__(self, dim: int, hidden_dim: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden_dim)
        self.lin2 = nn.Linear(hidden_dim, dim)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.act(self.lin1(x)))


class MLP(nn.Module):
    """Linear layers of the given widths with ReLU between them (hypernetworks and IoU head)."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)


def upsample_pixels(x: Tensor, conv: nn.ConvTranspose2d) -> Tensor:
    """A 2x2 stride-2 transposed convolution as one matrix product: its output pixels never overlap.

    Args:
        x: (P, C_in), one row per pixel.
        conv: weight (C_in, C_out, 2, 2).

    Returns:
        (4 P, C_out): each input pixel's 2x2 output pixels, row by row, one after the other.
    """
    weight = conv.weight.permute(2, 3, 1, 0).reshape(-1, conv.in_channels)  # (2*2*C_out, C_in)
    assert conv.bias is not None
    return F.linear(x, weight, torch.cat([conv.bias] * 4)).reshape(-1, conv.out_channels)


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q K^T) V of (B', tokens, heads, width): what fused kernels do, and `fuse_attention` finds."""
    scores = queries.transpose(1, 2) @ keys.permute(0, 2, 3, 1)
    return (torch.softmax(scores, dim=-1) @ values.transpose(1, 2)).transpose(1, 2)
