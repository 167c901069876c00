"""Square windows of a token grid, zero-padded at the bottom and right. Reshapes only, and no batch size in them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def split_windows(x: Tensor, *, grid: int, side: int) -> Tensor:
    """(B, grid, grid, C) -> (B * windows^2, side, side, C)."""
    windows, channels = -(-grid // side), int(x.shape[-1])  # int: a constant of the traced graph
    if side == grid:
        return x
    pad = windows * side - grid
    x = F.pad(x, (0, 0, 0, pad, 0, pad)) if pad else x
    return x.reshape(-1, windows, side, windows, side, channels).transpose(2, 3).reshape(-1, side, side, channels)


def join_windows(x: Tensor, *, grid: int, side: int) -> Tensor:
    """(B * windows^2, side, side, C) -> (B, grid, grid, C), without the padding."""
    windows, channels = -(-grid // side), int(x.shape[-1])
    if side == grid:
        return x
    padded = windows * side
    x = x.reshape(-1, windows, windows, side, side, channels).transpose(2, 3).reshape(-1, padded, padded, channels)
    return x[:, :grid, :grid] if padded > grid else x
