"""Weights of one input size -> weights of another: what depends on the token grid is interpolated, the rest kept.

* The positional embedding, as ViTDet does (`get_abs_pos`): bicubic, `align_corners=False`. SAM itself cannot change it.
* Relative positions of the global blocks, as SAM does (`get_rel_pos`): linear.

Windowed blocks keep their window, hence their tables. A TinyViT has neither kind: nothing in it depends on the grid.
Nor does anything in a Hiera, whose tables are enlarged to the grid whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor
from torch.nn import functional as F

from samhq_runtime.errors import ConfigError

from ..architecture import Architecture

_POS_EMBED = "image_encoder.pos_embed"


def resized(arch: Architecture, image_size: int) -> Architecture:
    """`arch` for another input size; ConfigError unless it is a positive multiple of the patch size."""
    if image_size <= 0 or image_size % arch.image_size_step:
        raise ConfigError(
            f"--image-size: got {image_size}, expected a multiple of {arch.image_size_step} for this model"
        )
    return replace(arch, image_size=image_size)


def resize_state(state: Mapping[str, Tensor], arch: Architecture) -> dict[str, Tensor]:
    """Official-format weights with every grid-sized tensor interpolated to the grid of `arch`; float32.

    Tensors that are missing stay missing, for strict loading to report.
    """
    grid = arch.embedding_size
    tables = [f"image_encoder.blocks.{i}.attn.rel_pos_{axis}" for i in arch.global_attn_indexes for axis in "hw"]
    result = dict(state)
    if _POS_EMBED in state:
        result[_POS_EMBED] = _resize_grid(state[_POS_EMBED], grid)
    for key in tables:
        if key in state:
            result[key] = _resize_table(state[key], 2 * grid - 1)
    return result


def _resize_grid(pos_embed: Tensor, grid: int) -> Tensor:
    """(1,G,G,D) -> (1,grid,grid,D)."""
    channels_first = pos_embed.permute(0, 3, 1, 2)
    return F.interpolate(channels_first, size=(grid, grid), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


def _resize_table(rel_pos: Tensor, rows: int) -> Tensor:
    """(R,d) -> (rows,d)."""
    return F.interpolate(rel_pos.T[None], size=rows, mode="linear", align_corners=False)[0].T
