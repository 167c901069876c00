"""Prompts -> embeddings: points and box corners (sparse), a previous mask (dense)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..architecture import Architecture
from .layers import LayerNorm2d


class PromptEncoder(nn.Module):
    """Names follow `segment_anything.modeling.PromptEncoder`; padding and box-to-corner rules live in the runtime."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        dim, chans = arch.embed_dim, arch.mask_in_chans
        self.dim = dim
        self.grid = arch.embedding_size
        self.image_size = arch.image_size
        self.pe_layer = PositionEmbedding(dim // 2)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))  # background, foreground, corners
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.no_mask_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(chans // 4),
            nn.GELU(),
            nn.Conv2d(chans // 4, chans, kernel_size=2, stride=2),
            LayerNorm2d(chans),
            nn.GELU(),
            nn.Conv2d(chans, dim, kernel_size=1),
        )

    def forward(
        self, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sparse (B,N,C) and dense (M,G*G,C) prompt embeddings."""
        return self._embed_points(point_coords, point_labels), self._embed_masks(mask_input, has_mask_input)

    def _embed_points(self, point_coords: Tensor, point_labels: Tensor) -> Tensor:
        """(B,N,2) pixels of the model frame, (B,N) labels (1 fg, 0 bg, 2/3 box corners, -1 padding) -> (B,N,C)."""
        position = self.pe_layer((point_coords + 0.5) / self.image_size)
        is_point = (point_labels >= 0).to(position.dtype)[..., None]
        kinds = [self.not_a_point_embed, *self.point_embeddings]
        table = torch.cat([kind.get_parameter("weight") for kind in kinds])  # row = label + 1
        return position * is_point + table[(point_labels + 1).long()]

    def _embed_masks(self, mask_input: Tensor, has_mask_input: Tensor) -> Tensor:
        """(M,1,4G,4G) logits -> (M,G*G,C), which is `no_mask_embed` if `has_mask_input` (1,) is 0."""
        embedded = self.mask_downscaling(mask_input).reshape(-1, self.dim, self.grid**2).transpose(1, 2)
        return has_mask_input * embedded + (1 - has_mask_input) * self.no_mask_embed.weight

    def dense_pe(self) -> Tensor:
        """Positional encoding of the embedding grid's cell centres, (1, G*G, C)."""
        device = self.pe_layer.positional_encoding_gaussian_matrix.device
        centres = (torch.arange(self.grid, dtype=torch.float32, device=device) + 0.5) / self.grid
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self.pe_layer(torch.stack([x, y], dim=-1)).flatten(0, 1)[None]


class PositionEmbedding(nn.Module):
    """Random Fourier features of coordinates in [0, 1] (`PositionEmbeddingRandom` upstream)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_frequencies: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_frequencies))

    def forward(self, coords: Tensor) -> Tensor:
        angles = 2 * math.pi * ((2 * coords - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)
