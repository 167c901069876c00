"""Hiera, the image encoder of SAM 2: four stages of windowed attention, each on a grid of half the side.

Module and parameter names follow `sam2.modeling`, so official state dicts load after a renaming. What makes the traced
graph lean without changing its result:

* A stage begins with a block that pools its queries: the maximum over 2x2 of them, taken on the whole grid before the
  windows are cut, which is the same because windows are even.
* Upstream zero-pads windows *after* LayerNorm, so a padding token's keys and values are the bias of `qkv`. As in
  `image_encoder`, the linear layers run on real tokens only: the bias of the keys drops out of softmax, and that of the
  values passes through into the bias of `proj`.
* The table of positions depends on the weights alone and is handed in as a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import Architecture, HieraStages
from .layers import MLPBlock, attend
from .windows import join_windows, split_windows

_PATCH_STRIDE = 4
_WINDOW_TABLE = 8  # side of the second table of positions, which is repeated over the grid


@dataclass(frozen=True)
class _BlockSizes:
    """Sizes of one block: of its input, `dim` and `grid`, and of its output, `dim_out` and `grid_out`."""

    dim: int
    dim_out: int
    heads: int
    grid: int
    grid_out: int
    window: int  # side of the squares of input tokens that attend to one another; `grid`: all do


class HieraTrunk(nn.Module):
    """`input_image` (B,3,S,S) -> the outputs of the stages, (B,(S/4)^2,E), (B,(S/8)^2,2E), ..."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        assert arch.hiera is not None
        self.grid = arch.image_size // _PATCH_STRIDE
        self.ends = stage_ends(arch.hiera)
        side = arch.hiera.position_side
        self.patch_embed = PatchEmbed(arch.encoder_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, arch.encoder_dim, side, side))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, arch.encoder_dim, _WINDOW_TABLE, _WINDOW_TABLE))
        self.blocks = nn.ModuleList(Block(sizes) for sizes in _block_sizes(arch, arch.hiera, self.grid))

    def forward(self, input_image: Tensor, positions: Tensor) -> list[Tensor]:
        """`positions` (1,(S/4)^2,E) is what `positions` returns."""
        x = self.patch_embed(input_image) + positions
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                outputs.append(x)
        return outputs

    def positions(self) -> Tensor:
        """(1,(S/4)^2,E): one table enlarged to the grid, and one repeated over it."""
        size = (self.grid, self.grid)
        table = F.interpolate(self.pos_embed, size=size, mode="bicubic")
        repeats = self.grid // _WINDOW_TABLE
        return (table + self.pos_embed_window.tile(1, 1, repeats, repeats)).flatten(2).transpose(1, 2)


class PatchEmbed(nn.Module):
    """(B,3,S,S) -> (B,(S/4)^2,E)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=7, stride=_PATCH_STRIDE, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer block, (B,grid^2,dim) -> (B,grid_out^2,dim_out)."""

    def __init__(self, sizes: _BlockSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.norm1 = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.attn = Attention(sizes)
        self.norm2 = nn.LayerNorm(sizes.dim_out, eps=1e-6)
        self.mlp = MLPBlock(sizes.dim_out, 4 * sizes.dim_out, nn.GELU())
        if sizes.dim != sizes.dim_out:
            self.proj = nn.Linear(sizes.dim, sizes.dim_out)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = self._shortcut(x, normed) + self.attn(normed)
        return x + self.mlp(self.norm2(x))

    def _shortcut(self, x: Tensor, normed: Tensor) -> Tensor:
        """Where the width changes, of the *normalised* input."""
        sizes = self.sizes
        if sizes.dim == sizes.dim_out:
            return x
        return _pooled(self.proj(normed), sizes.grid, sizes.grid_out).reshape(-1, sizes.grid_out**2, sizes.dim_out)


class Attention(nn.Module):
    """Multi-head attention inside windows, of queries that may be fewer than keys: (B,g^2,dim) -> (B,g_out^2,dim_out).

    Tokens stay one axis outside of attention, as in `image_encoder.Attention`.
    """

    def __init__(self, sizes: _BlockSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.head_dim = sizes.dim_out // sizes.heads
        self.qkv = nn.Linear(sizes.dim, 3 * sizes.dim_out)
        self.proj = nn.Linear(sizes.dim_out, sizes.dim_out)

    def forward(self, x: Tensor) -> Tensor:
        sizes, dim = self.sizes, self.sizes.dim_out
        side = sizes.window * sizes.grid_out // sizes.grid  # of a window of queries
        q, k, v = self._project(x)
        queries = split_windows(_pooled(q, sizes.grid, sizes.grid_out), grid=sizes.grid_out, side=side)
        keys, values = (split_windows(t, grid=sizes.grid, side=sizes.window) for t in (k, v))
        out = attend(self._heads(queries, side), self._heads(keys, sizes.window), self._heads(values, sizes.window))
        out = join_windows(out.reshape(-1, side, side, dim), grid=sizes.grid_out, side=side)
        bias = self.proj.bias + self.proj.weight @ self.qkv.bias[2 * dim :]  # what `v` lost in `_project`
        return F.linear(out.reshape(-1, sizes.grid_out**2, dim), self.proj.weight, bias)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scaled queries, keys and values, each (B,g,g,dim_out), the latter two without their biases."""
        scale, dim, grid = self.head_dim**-0.5, self.sizes.dim_out, self.sizes.grid
        weight = torch.cat([self.qkv.weight[:dim] * scale, self.qkv.weight[dim:]])
        bias = torch.cat([self.qkv.bias[:dim] * scale, torch.zeros(2 * dim, device=x.device)])
        return torch.split(F.linear(x, weight, bias).reshape(-1, grid, grid, 3 * dim), dim, dim=-1)

    def _heads(self, x: Tensor, side: int) -> Tensor:
        """(B',side,side,dim_out) -> (B',side^2,heads,width)."""
        return x.reshape(-1, side * side, self.sizes.heads, self.head_dim)


def stage_ends(stages: HieraStages) -> list[int]:
    """Index of the last block of each stage."""
    return [sum(stages.depths[: n + 1]) - 1 for n in range(len(stages.depths))]


def _block_sizes(arch: Architecture, stages: HieraStages, grid: int) -> Iterator[_BlockSizes]:
    """The first block of a stage still has the grid and the window of the stage before."""
    dim, ends = arch.encoder_dim, stage_ends(stages)
    for index in range(arch.depth):
        stage = sum(end < index for end in ends)
        pools = index - 1 in ends
        dim_out, grid_out = (2 * dim, grid // 2) if pools else (dim, grid)
        window = grid if index in arch.global_attn_indexes else stages.window_sizes[stage - pools]
        yield _BlockSizes(dim, dim_out, arch.num_heads << stage, grid, grid_out, window)
        dim, grid = dim_out, grid_out


def _pooled(x: Tensor, grid: int, grid_out: int) -> Tensor:
    """(B,g,g,C) or (B,g^2,C) -> (B,g_out,g_out,C): the largest of each square, if there are fewer."""
    channels = int(x.shape[-1])
    if grid == grid_out:
        return x.reshape(-1, grid, grid, channels)
    step = grid // grid_out
    return x.reshape(-1, grid_out, step, grid_out, step, channels).amax(dim=(2, 4))
