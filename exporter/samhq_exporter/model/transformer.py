"""Two-way transformer between prompt tokens and image tokens (names follow `segment_anything.modeling`).

There are thousands of image tokens and about ten prompt tokens. Where the two meet, the projections of the image tokens
are moved to the other side of the product, which is exact: `(x Wk) . q = x . (Wk^T q)`, and likewise for values,
queries and outputs. So image tokens meet 8 heads x T vectors of their own width instead of three or four square
matrices, nothing is split into heads or transposed, and half of the arithmetic is gone for T <= 8.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import MLPBlock


class TwoWayTransformer(nn.Module):
    def __init__(self, dim: int, *, depth: int, num_heads: int, mlp_dim: int, norm_eps: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, num_heads, mlp_dim, first=i == 0, norm_eps=norm_eps) for i in range(depth)
        )
        self.final_attn_token_to_image = TokenToImageAttention(dim, num_heads, downsample_rate=2)
        self.norm_final_attn = nn.LayerNorm(dim)  # of the default eps in every implementation

    def forward(self, tokens: Tensor, image_tokens: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B,T,C), image_tokens (B or 1,L,C), image_pe (1,L,C) -> both sets of tokens, updated."""
        queries, keys, query_pe = tokens, image_tokens, tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, query_pe, image_pe)
        attended = self.final_attn_token_to_image(queries + query_pe, keys + image_pe, keys)
        return self.norm_final_attn(queries + attended), keys


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, tokens to image, MLP on tokens, image to tokens."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, *, first: bool, norm_eps: float) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.cross_attn_token_to_image = TokenToImageAttention(dim, num_heads, downsample_rate=2)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLPBlock(dim, mlp_dim, nn.ReLU())
        self.norm3 = nn.LayerNorm(dim, eps=norm_eps)
        self.norm4 = nn.LayerNorm(dim, eps=norm_eps)
        self.cross_attn_image_to_token = ImageToTokenAttention(dim, num_heads, downsample_rate=2)

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:  # the queries still are their own positional encoding, and there is no residual
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)

        keys_at = keys + key_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_pe, keys_at, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(keys_at, queries + query_pe, queries))
        return queries, keys


class Attention(nn.Module):
    """Multi-head attention whose inner width is `dim / downsample_rate`."""

    def __init__(self, dim: int, num_heads: int, *, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = dim // downsample_rate
        self.dim = dim
        self.num_heads = num_heads
        self.inner = inner
        self.scale = (inner // num_heads) ** -0.5
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = self._split_heads(self.q_proj(q)) * self.scale
        k = self._split_heads(self.k_proj(k))
        v = self._split_heads(self.v_proj(v))
        return self.out_proj(self._join_heads(torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, T, inner) -> (B, heads, T, d)."""
        return x.reshape(x.shape[0], -1, self.num_heads, self.inner // self.num_heads).transpose(1, 2)

    def _join_heads(self, x: Tensor) -> Tensor:
        """(B, heads, T, d) -> (B, T, inner)."""
        return x.transpose(1, 2).reshape(x.shape[0], -1, self.inner)

    def _per_head(self, weight: Tensor) -> Tensor:
        """(inner, C) -> (heads, d, C)."""
        return weight.reshape(self.num_heads, -1, self.dim)

    def _widen(self, x: Tensor, weight: Tensor) -> Tensor:
        """(B, heads, T, d) through each head's rows of `weight` (inner, C) -> (B, heads*T, C)."""
        return (x @ self._per_head(weight)).reshape(x.shape[0], -1, self.dim)


class TokenToImageAttention(Attention):
    """Few queries, many keys."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B,T,C), k and v (B or 1,L,C) -> (B,T,C).

        The bias of `k_proj` adds the same to all scores of a query, which softmax ignores.
        """
        q = self._widen(self._split_heads(self.q_proj(q)) * self.scale, self.k_proj.weight)
        pooled = torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ v  # (B, heads*T, C)
        pooled = pooled.reshape(pooled.shape[0], self.num_heads, -1, self.dim)
        heads = pooled @ self._per_head(self.v_proj.weight).transpose(-2, -1)  # (B, heads, T, d)
        return self.out_proj(self._join_heads(heads) + self.v_proj.bias)


class ImageToTokenAttention(Attention):
    """Many queries, few keys."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B or 1,L,C), k and v (B,T,C) -> (B,L,C)."""
        k = self._split_heads(self.k_proj(k)) * self.scale
        v = self._split_heads(self.v_proj(v))
        bias = (k @ self.q_proj.bias.reshape(self.num_heads, -1, 1)).reshape(k.shape[0], 1, -1)
        scores = q @ self._widen(k, self.q_proj.weight).transpose(-2, -1) + bias  # (B, L, heads*T)
        per_head = scores.reshape(scores.shape[0], scores.shape[1], self.num_heads, -1)
        weights = torch.softmax(per_head, dim=-1).reshape(per_head.shape[0], per_head.shape[1], -1)
        return weights @ self._widen(v, self.out_proj.weight.T) + self.out_proj.bias
