"""The ViT image encoder of SAM (ViTDet: windowed and global attention with decomposed relative position).

Module and parameter names follow `segment_anything.modeling.ImageEncoderViT`, so official state dicts load as they
are. Two identities make the traced graph lean without changing its result:

* Relative position enters as extra query/key channels: with one-hot key coordinates,
  `[q*s, rel_h(q), rel_w(q)] @ [k, onehot_h, onehot_w]^T` equals `s*q@k^T + rel_h + rel_w`, so attention stays
  softmax(QK^T)V and no (tokens x tokens) bias exists.
* Upstream zero-pads windows *after* LayerNorm, so a padding token's q, k, v are the bias of `qkv`: the linear layers
  run on real tokens only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import Architecture
from .layers import MLPBlock
from .neck import Neck
from .windows import join_windows, split_windows


class ImageEncoder(nn.Module):
    """`input_image` (B,3,S,S) -> `image_embeddings` (B,C,G,G) and the early ViT feature (B,G,G,D), G = S / patch."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        grid = arch.embedding_size
        self.early_index = arch.global_attn_indexes[0]
        self.patch_embed = PatchEmbed(arch.patch_size, arch.encoder_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, arch.encoder_dim))
        self.blocks = nn.ModuleList(
            Block(arch, window_size=0 if i in arch.global_attn_indexes else arch.window_size) for i in range(arch.depth)
        )
        self.neck = Neck(arch.encoder_dim, arch.embed_dim)

    def forward(self, input_image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch_embed(input_image) + self.pos_embed
        early = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.early_index:  # HQ-SAM takes the feature after the first global-attention block
                early = x
        return self.neck(x), early


class PatchEmbed(nn.Module):
    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)  # (B, G, G, D)


class Block(nn.Module):
    """Pre-norm transformer block; `window_size` 0 means global attention."""

    def __init__(self, arch: Architecture, *, window_size: int) -> None:
        super().__init__()
        dim = arch.encoder_dim
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, arch.num_heads, grid=arch.embedding_size, window_size=window_size)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MLPBlock(dim, arch.encoder_mlp_dim, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Multi-head attention over the whole grid or over square windows of it, (B,G,G,D) -> (B,G,G,D)."""

    offsets: Tensor
    key_onehot: Tensor

    def __init__(self, dim: int, num_heads: int, *, grid: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dim = dim
        self.head_dim = dim // num_heads
        self.grid = grid
        self.side = window_size or grid  # side of the square inside which tokens attend
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * self.side - 1, self.head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * self.side - 1, self.head_dim))
        offsets = torch.arange(self.side)
        # Distance of every (query, key) pair along one axis, shifted to start at 0 (`get_rel_pos` upstream).
        self.register_buffer("offsets", offsets[:, None] - offsets[None, :] + self.side - 1, persistent=False)
        self.register_buffer("key_onehot", _key_onehot(self.side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        qkv = split_windows(F.linear(x, self.qkv.weight), grid=self.grid, side=self.side) + self.qkv.bias
        s = self.side
        q, k, v = qkv.reshape(-1, s * s, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        out = torch.softmax(self._extend_query(q) @ self._extend_key(k).transpose(-2, -1), dim=-1) @ v
        out = out.transpose(1, 2).reshape(-1, s, s, self.dim)
        return self.proj(join_windows(out, grid=self.grid, side=self.side))

    def _extend_query(self, q: Tensor) -> Tensor:
        """(B', heads, s*s, d) -> (B', heads, s*s, d + 2s): scaled query, then its relative-position logits per axis."""
        s = self.side
        grid_q = q.reshape(-1, self.num_heads, s, s, self.head_dim)  # (B', heads, row, column, d)
        rel_h = grid_q @ self.rel_pos_h[self.offsets].transpose(1, 2)  # (row, d, key row)
        rel_w = grid_q.transpose(2, 3) @ self.rel_pos_w[self.offsets].transpose(1, 2)  # (column, d, key column)
        rel = torch.cat([rel_h, rel_w.transpose(2, 3)], dim=-1)
        return torch.cat([q * self.head_dim**-0.5, rel.reshape(-1, self.num_heads, s * s, 2 * s)], dim=-1)

    def _extend_key(self, k: Tensor) -> Tensor:
        return torch.cat([k, self.key_onehot.expand(k.shape[0], self.num_heads, self.side**2, 2 * self.side)], dim=-1)


def _key_onehot(side: int) -> Tensor:
    """(1, 1, side^2, 2*side): row and column of every key, one-hot."""
    eye = torch.eye(side)
    rows = eye[:, None, :].expand(side, side, side)
    columns = eye[None, :, :].expand(side, side, side)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)[None, None]
