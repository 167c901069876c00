"""Two-way transformer between prompt tokens and image tokens (names follow `segment_anything.modeling`).

There are thousands of image tokens and about ten prompt tokens. Where the two meet, the projections of the image tokens
are moved to the other side of the product, which is exact: `(x Wk) . q = x . (Wk^T q)`, and likewise for values,
queries and outputs. So image tokens meet 8 heads x T vectors of their own width instead of three or four square
matrices, nothing is split into heads or transposed, and half of the arithmetic is gone for T <= 8. On the side of the
prompt tokens two projections follow one another then, and are one: a larger matrix, but one product instead of two and
what lies between them. Self-attention keeps its small matrices: so few tokens gain nothing from larger ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        self.self_attn = SelfAttention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.cross_attn_token_to_image = TokenToImageAttention(dim, num_heads, downsample_rate=2)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLPBlock(dim, mlp_dim, nn.ReLU())
        self.norm3 = nn.LayerNorm(dim, eps=norm_eps)
        self.norm4 = nn.LayerNorm(dim, eps=norm_eps)
        self.cross_attn_image_to_token = ImageToTokenAttention(dim, num_heads, downsample_rate=2)

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        if self.first:  # the queries still are their own positional encoding, and there is no residual
            queries = self.self_attn(queries, queries)
        else:
            queries = queries + self.self_attn(queries + query_pe, queries)
        queries = self.norm1(queries)

        keys_at = keys + key_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(queries + query_pe, keys_at, keys))
        queries = self.norm3(queries + self.mlp(queries))
        keys = self.norm4(keys + self.cross_attn_image_to_token(keys_at, queries + query_pe, queries))
        return queries, keys


class Attention(nn.Module):
    """The projections of multi-head attention whose inner width is `dim / downsample_rate`."""

    def __init__(self, dim: int, num_heads: int, *, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = dim // downsample_rate
        self.dim = dim
        self.num_heads = num_heads
        self.scale = (inner // num_heads) ** -0.5
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def _per_head(self, weight: Tensor) -> Tensor:
        """(inner, C) -> (heads, d, C)."""
        return weight.reshape(self.num_heads, -1, self.dim)

    def _across(self, near: Tensor, far: Tensor) -> Tensor:
        """Two projections as one: each head's `near` (inner, C) transposed times its `far` (inner, C) -> (heads, C, C).

        Weights alone, so a constant of the graph.
        """
        return self._per_head(near).transpose(1, 2) @ self._per_head(far)

    def _out_bias(self) -> Tensor:
        """What values and outputs add, (C,): the weights of every query sum to one."""
        return self.out_proj.bias + self.out_proj.weight @ self.v_proj.bias


class SelfAttention(Attention):
    """Tokens attend to one another."""

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """x (B,T,C) makes queries and keys, v (B,T,C) values -> (B,T,C).

        The bias of `k_proj` adds the same to all scores of a query, which softmax ignores; that of `v_proj` passes
        through to the output.
        """
        projections = [self.q_proj.weight * self.scale, self.k_proj.weight]
        bias = torch.cat([self.q_proj.bias * self.scale, torch.zeros_like(self.k_proj.bias)])
        q, k = self._heads(F.linear(x, torch.cat(projections), bias), 2).unbind(0)
        values = self._heads(F.linear(v, self.v_proj.weight), 1)[0]
        pooled = torch.softmax(q @ k.transpose(-2, -1), dim=-1) @ values
        pooled = pooled.transpose(1, 2).reshape(v.shape[0], -1, self.v_proj.out_features)
        return F.linear(pooled, self.out_proj.weight, self._out_bias())

    def _heads(self, x: Tensor, count: int) -> Tensor:
        """(B, T, count * inner) -> (count, B, heads, T, d)."""
        inner = self.q_proj.out_features
        return x.reshape(x.shape[0], -1, count, self.num_heads, inner // self.num_heads).permute(2, 0, 3, 1, 4)


class TokenToImageAttention(Attention):
    """Few queries, many keys."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B,T,C), k and v (B or 1,L,C) -> (B,T,C).

        The bias of `k_proj` adds the same to all scores of a query, which softmax ignores.
        """
        wide = self.num_heads * self.dim
        weight = self._across(self.q_proj.weight * self.scale, self.k_proj.weight).transpose(0, 1).reshape(-1, wide)
        bias = self.q_proj.bias.reshape(self.num_heads, 1, -1) * self.scale @ self._per_head(self.k_proj.weight)
        queries = (q @ weight + bias.reshape(wide)).reshape(q.shape[0], -1, self.dim)  # (B, T*heads, C)
        pooled = torch.softmax(queries @ k.transpose(-2, -1), dim=-1) @ v
        pooled = pooled.reshape(pooled.shape[0], -1, wide)  # (B, T, heads*C)
        weight = self._across(self.v_proj.weight, self.out_proj.weight.T).reshape(wide, self.dim)
        return pooled @ weight + self._out_bias()


class ImageToTokenAttention(Attention):
    """Many queries, few keys."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (B or 1,L,C), k and v (B,T,C) -> (B,L,C)."""
        batch, heads, dim = k.shape[0], self.num_heads, self.dim
        # Behind each head's channels, what the bias of `q_proj` adds to the scores of a key; what the bias of `k_proj`
        # adds to that is the same for all keys of a head.
        queries = torch.cat([self.q_proj.weight, self.q_proj.bias[:, None]], dim=1).reshape(heads, -1, dim + 1)
        weight = (self._per_head(self.k_proj.weight * self.scale).transpose(1, 2) @ queries).transpose(0, 1)
        bias = self.k_proj.bias.reshape(heads, 1, -1) * self.scale @ self._per_head(self.q_proj.weight)
        bias = torch.cat([bias, bias.new_zeros(heads, 1, 1)], dim=2).reshape(-1)
        keys = (k @ weight.reshape(dim, -1) + bias).reshape(batch, -1, heads, dim + 1).transpose(1, 2)
        keys, key_bias = torch.split(keys.reshape(batch, -1, dim + 1), [dim, 1], dim=-1)  # (B, heads*T, ...)
        scores = q @ keys.transpose(-2, -1) + key_bias.transpose(-2, -1)  # (B, L, heads*T)
        per_head = scores.reshape(scores.shape[0], scores.shape[1], heads, -1)
        weights = torch.softmax(per_head, dim=-1).reshape(per_head.shape[0], per_head.shape[1], -1)
        values = v @ self._across(self.v_proj.weight, self.out_proj.weight.T).transpose(0, 1).reshape(dim, -1)
        values = values.reshape(batch, -1, heads, dim).transpose(1, 2).reshape(batch, -1, dim)
        return weights @ values + self._out_bias()
