"""The TinyViT image encoder of Light HQ-SAM (`sam_hq_vit_tiny.pth`, built on MobileSAM).

Module names follow `segment_anything_hq.modeling.TinyViT`. An official state dict loads strictly after `fold_weights`,
which leaves three things out of the traced graph without changing its result:

* the classifier, which upstream keeps and never calls (`drop_unused`);
* batch normalisation, which is part of the convolution before it (`fold_batchnorm`);
* the bias of the LayerNorm before attention, which is part of `qkv.bias` (`fold_norm_bias`). Upstream zero-pads windows
  *before* that LayerNorm, so a padding token's q, k, v then are `qkv.bias`: the linear layers run on real tokens only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..architecture import Architecture, TinyViTStage
from .neck import Neck
from .windows import join_windows, split_windows

_EARLY_STAGE = 2  # HQ-SAM takes the feature that enters this stage
_PATCH_STRIDE = 4  # of `PatchEmbed`
_EXPANSION = 4  # hidden width of `MBConv` and `MLP` over their own
_BATCHNORM_EPS = 1e-5
_UNUSED = re.compile(
    r"^image_encoder\.(norm_head|head)\."  # the ImageNet classifier
    r"|\.bn\.num_batches_tracked$"
    r"|\.attn\.(ab|attention_bias_idxs)$"  # upstream's caches, in files saved by some of its forks
)


class TinyViTEncoder(nn.Module):
    """`input_image` (B,3,S,S) -> `image_embeddings` (B,C,G,G) and the early feature (B,G,G,D), D = `encoder_dim`."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(arch.stages[0].dim)
        grid = arch.image_size // _PATCH_STRIDE
        layers: list[nn.Module] = []
        for stage, following in zip(arch.stages, [*arch.stages[1:], None], strict=True):
            layers.append(Stage(stage, following, grid=grid))
            grid //= following.stride if following else 1
        self.layers = nn.ModuleList(layers)
        self.neck = Neck(arch.stages[-1].dim, arch.embed_dim)

    def forward(self, input_image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.patch_embed(input_image)  # (B, C, S/4, S/4)
        early = x
        for index, layer in enumerate(self.layers):
            early = x if index == _EARLY_STAGE else early
            x = layer(x)
        return self.neck(x.permute(0, 2, 3, 1)), early.permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2, (B,3,S,S) -> (B,C,S/4,S/4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.Conv2d(3, dim // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class Stage(nn.Module):
    """Blocks of one width, then the merging to the next (`ConvLayer` and `BasicLayer` upstream), NCHW to NCHW."""

    def __init__(self, stage: TinyViTStage, following: TinyViTStage | None, *, grid: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            AttentionBlock(stage, grid=grid) if stage.num_heads else MBConv(stage.dim) for _ in range(stage.depth)
        )
        self.downsample = PatchMerging(stage.dim, following.dim, following.stride) if following else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)


class PatchMerging(nn.Module):
    """(B,C,H,W) -> (B,C',H/stride,W/stride) by a depthwise convolution between two 1x1 convolutions."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, out_dim, 1)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, stride=stride, padding=1, groups=out_dim)
        self.conv3 = nn.Conv2d(out_dim, out_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class MBConv(nn.Module):
    """Inverted bottleneck with a residual, activated once more after the sum, (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = _EXPANSION * dim
        self.conv1 = nn.Conv2d(dim, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.conv3 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class AttentionBlock(nn.Module):
    """Windowed attention, depthwise convolution, MLP (`TinyViTBlock` upstream), (B,C,H,W) -> (B,C,H,W)."""

    def __init__(self, stage: TinyViTStage, *, grid: int) -> None:
        super().__init__()
        self.attn = Attention(stage.dim, stage.num_heads, grid=grid, window_size=stage.window_size)
        self.local_conv = nn.Conv2d(stage.dim, stage.dim, 3, padding=1, groups=stage.dim)
        self.mlp = MLP(stage.dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        tokens = tokens + self.attn(tokens)
        tokens = self.local_conv(tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (tokens + self.mlp(tokens)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head attention in square windows with a learned bias per head and distance, (B,G,G,C) -> (B,G,G,C).

    `attention_biases` (heads, side^2) holds one value per (|rows|, |columns|) apart. It is gathered here, in the graph:
    upstream caches the gathered copy when `eval()` is called, and keeps a stale one if weights are loaded after that.
    """

    bias_index: Tensor

    def __init__(self, dim: int, num_heads: int, *, grid: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.grid = grid
        self.side = window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window_size**2))
        self.register_buffer("bias_index", _bias_index(window_size), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        s = self.side
        qkv = split_windows(F.linear(self.norm(x), self.qkv.weight), grid=self.grid, side=s) + self.qkv.bias
        # Upstream keeps q, k and v of a head together: (B', tokens, heads, 3, d).
        q, k, v = qkv.reshape(-1, s * s, self.num_heads, 3, self.head_dim).permute(3, 0, 2, 1, 4).unbind(0)
        logits = (q * self.head_dim**-0.5) @ k.transpose(-2, -1) + self._bias()
        out = (torch.softmax(logits, dim=-1) @ v).transpose(1, 2).reshape(-1, s, s, self.num_heads * self.head_dim)
        return self.proj(join_windows(out, grid=self.grid, side=s))

    def _bias(self) -> Tensor:
        """(heads, tokens, tokens); `index_select` because indexing would export as GatherND."""
        tokens = self.side**2
        return self.attention_biases.index_select(1, self.bias_index).reshape(self.num_heads, tokens, tokens)


class MLP(nn.Module):
    """LayerNorm and the feed-forward part of a block, (..., C) -> (..., C)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, _EXPANSION * dim)
        self.fc2 = nn.Linear(_EXPANSION * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


def fold_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official state dict -> the tensors `TinyViTEncoder` holds; keys of other parts of the model pass unchanged."""
    return fold_norm_bias(fold_batchnorm(drop_unused(state)))


def drop_unused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what upstream stores but never uses at inference: classifier, batch counters, caches."""
    return {key: value for key, value in state.items() if not _UNUSED.search(key)}


def fold_batchnorm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`X.c.weight` and `X.bn.*` (`Conv2d_BN` upstream) -> `X.weight`, `X.bias` of one convolution.

    A pair with a missing tensor is left as it is, for strict loading to report.
    """
    folded = dict(state)
    for name in [key.removesuffix(".c.weight") for key in state if key.endswith(".c.weight")]:
        sources = [
            f"{name}.c.weight",
            *(f"{name}.bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
        ]
        if not all(key in state for key in sources):
            continue
        kernel, gain, shift, mean, var = (folded.pop(key).double() for key in sources)
        scale = gain / torch.sqrt(var + _BATCHNORM_EPS)
        dtype = state[sources[0]].dtype
        folded[f"{name}.weight"] = (kernel * scale[:, None, None, None]).to(dtype)
        folded[f"{name}.bias"] = (shift - mean * scale).to(dtype)
    return folded


def fold_norm_bias(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The bias of `attn.norm` moves into `attn.qkv.bias`: W @ (x + b) + c = W @ x + (W @ b + c)."""
    folded = dict(state)
    for name in [key.removesuffix(".norm.bias") for key in state if key.endswith(".attn.norm.bias")]:
        norm, weight, bias = (state.get(f"{name}.{part}") for part in ("norm.bias", "qkv.weight", "qkv.bias"))
        if norm is None or weight is None or bias is None:
            continue
        folded[f"{name}.qkv.bias"] = (weight.double() @ norm.double() + bias.double()).to(bias.dtype)
        folded[f"{name}.norm.bias"] = torch.zeros_like(norm)
    return folded


def _bias_index(side: int) -> Tensor:
    """(side^4,): for every (query, key), the column of `attention_biases` of their distance."""
    distance = (torch.arange(side)[:, None] - torch.arange(side)[None, :]).abs()
    index = side * distance[:, None, :, None] + distance[None, :, None, :]  # (row, column, key row, key column)
    return index.flatten()
