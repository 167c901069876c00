"""The ViT image encoder of SAM (ViTDet: windowed and global attention with decomposed relative position).

Module and parameter names follow `segment_anything.modeling.ImageEncoderViT`, so official state dicts load as they
are. Three identities make the traced graph lean without changing its result:

* Relative position enters as extra query/key channels: with one-hot key coordinates,
  `[q*s, rel_h(q), rel_w(q)] @ [k, onehot_h, onehot_w]^T` equals `s*q@k^T + rel_h + rel_w`, so attention stays
  softmax(QK^T)V and no (tokens x tokens) bias exists. Queries and keys are wider than values then; `pad_attention`
  makes them of one width where TensorRT's fused kernel asks for it.
* Upstream zero-pads windows *after* LayerNorm, so a padding token's q, k, v are the bias of `qkv`: the linear layers
  run on real tokens only.
* Softmax ignores what is added to all scores of a query, and its weights sum to one: the bias of the keys drops out,
  and that of the values passes through into the bias of `proj`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import Architecture
from .layers import MLPBlock, attend
from .neck import Neck
from .windows import join_windows, split_windows


class ImageEncoder(nn.Module):
    """`input_image` (B,3,S,S) -> `image_embeddings` (B,C,G,G) and the early ViT feature (B,G,G,D), G = S / patch."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        grid = arch.embedding_size
        self.early_index = arch.global_attn_indexes[0]
        self.patch_embed = PatchEmbed(arch.patch_size, arch.encoder_dim, grid=grid)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, arch.encoder_dim))
        self.blocks = nn.ModuleList(
            Block(arch, window_size=0 if i in arch.global_attn_indexes else arch.window_size) for i in range(arch.depth)
        )
        self.neck = Neck(arch.encoder_dim, arch.embed_dim)

    def forward(self, input_image: Tensor) -> tuple[Tensor, Tensor]:
        x = early = self.patch_embed(input_image) + self.pos_embed.flatten(1, 2)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.early_index:  # HQ-SAM takes the feature after the first global-attention block
                early = x
        square = (-1, *self.pos_embed.shape[1:])
        return self.neck(x.reshape(square)), early.reshape(square)


class PatchEmbed(nn.Module):
    """(B,3,S,S) -> (B, G*G, D)."""

    def __init__(self, patch_size: int, dim: int, *, grid: int) -> None:
        super().__init__()
        self.grid, self.dim = grid, dim
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x).permute(0, 2, 3, 1)
        return x.reshape(-1, self.grid**2, self.dim)


class Block(nn.Module):
    """Pre-norm transformer block on (B, G*G, D); `window_size` 0 means global attention."""

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
    """Multi-head attention over the whole grid or over square windows of it, (B, G*G, D) -> (B, G*G, D).

    Tokens stay one axis outside of attention: OpenVINO lays four axes out as an image, and back for every LayerNorm.
    """

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
        s, heads = self.side, self.num_heads
        q, k, v = self._project(x)
        out = attend(self._extend_query(q), self._extend_key(k), v.reshape(-1, s * s, heads, self.head_dim))
        out = out.reshape(-1, s, s, self.dim)
        # What `v` lost in `_project` returns here: the weights of every query sum to one.
        bias = self.proj.bias + self.proj.weight @ self.qkv.bias[2 * self.dim :]
        out = join_windows(out, grid=self.grid, side=s).reshape(-1, self.grid**2, self.dim)
        return F.linear(out, self.proj.weight, bias)

    def _project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scaled queries, keys and values, each (B', s, s, D), the latter two without their biases.

        A bias of the keys adds the same to all scores of a query, which softmax ignores. Upstream's padding tokens are
        nothing but biases, so here they are zero, and only their queries differ, which nobody reads.
        """
        scale, dim = self.head_dim**-0.5, self.dim
        # One product: ONNX Runtime does not fuse int8 products that share a quantized activation.
        weight = torch.cat([self.qkv.weight[:dim] * scale, self.qkv.weight[dim:]])
        bias = torch.cat([self.qkv.bias[:dim] * scale, torch.zeros(2 * dim, device=x.device)])
        qkv = F.linear(x, weight, bias).reshape(-1, self.grid, self.grid, 3 * dim)
        return torch.split(split_windows(qkv, grid=self.grid, side=self.side), dim, dim=-1)

    def _extend_query(self, q: Tensor) -> Tensor:
        """(B', s, s, D) -> (B', s*s, heads, d + 2s): the query, then its relative-position logits per axis."""
        s, d = self.side, self.head_dim
        unscaled = d**0.5
        rows = q.reshape(-1, s, s * self.num_heads, d)  # (B', row, column and head, d)
        columns = q.transpose(1, 2).reshape(-1, s, s * self.num_heads, d)  # (B', column, row and head, d)
        rel_h = rows @ (self.rel_pos_h[self.offsets] * unscaled).transpose(1, 2)  # (row, d, key row)
        rel_w = columns @ (self.rel_pos_w[self.offsets] * unscaled).transpose(1, 2)  # (column, d, key column)
        grid = (-1, s, s, self.num_heads, s)
        rel_w = rel_w.reshape(grid).transpose(1, 2)
        parts = [q.reshape(-1, s, s, self.num_heads, d), rel_h.reshape(grid), rel_w]
        return torch.cat(parts, dim=-1).reshape(-1, s * s, self.num_heads, d + 2 * s)

    def _extend_key(self, k: Tensor) -> Tensor:
        """(B', s, s, D) -> (B', s*s, heads, d + 2s): the key, then its own row and column, one-hot."""
        heads, tokens = self.num_heads, self.side**2
        position = self.key_onehot.expand(k.shape[0], tokens, heads, 2 * self.side)
        return torch.cat([k.reshape(-1, tokens, heads, self.head_dim), position], dim=-1)


def _key_onehot(side: int) -> Tensor:
    """(1, side^2, 1, 2*side): row and column of every key, one-hot."""
    eye = torch.eye(side)
    rows = eye[:, None, :].expand(side, side, side)
    columns = eye[None, :, :].expand(side, side, side)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)[None, :, None]
