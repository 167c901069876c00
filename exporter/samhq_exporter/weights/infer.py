"""Every size of a model, read off the shapes of an official-format state dict."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..architecture import VARIANTS, Architecture

MASK_TOKENS = "mask_decoder.mask_tokens.weight"
NOT_A_MODEL = (KeyError, IndexError, ValueError, ZeroDivisionError)  # what reading sizes off other tensors may raise
_HIERA = "image_encoder.trunk.patch_embed.proj.weight"
_TINY_VIT = "image_encoder.patch_embed.seq.0.c.weight"


def is_tiny_vit(state: Mapping[str, Tensor]) -> bool:
    return _TINY_VIT in state


def architecture_of(state: Mapping[str, Tensor]) -> Architecture:
    """The sizes of the model; one of `NOT_A_MODEL` is raised if the tensors do not describe one."""
    if is_tiny_vit(state):  # one released size, and no shape shows its grid
        return VARIANTS["vit_tiny"]
    if _HIERA in state:
        return _hiera(state)
    patch = state["image_encoder.patch_embed.proj.weight"].shape  # (D, 3, P, P)
    grid = state["image_encoder.pos_embed"].shape[1]
    depth = _count(state, r"image_encoder\.blocks\.(\d+)\.")
    sides = [(state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape[0] + 1) // 2 for i in range(depth)]
    global_blocks = tuple(i for i, side in enumerate(sides) if side == grid)
    windows = {side for side in sides if side != grid}
    if not global_blocks or len(windows) > 1:
        raise ValueError(f"attention windows of sides {sorted(set(sides))} on a {grid} x {grid} grid")
    mlp_dim = state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0]
    return Architecture(
        encoder_dim=patch[0],
        depth=depth,
        num_heads=patch[0] // state["image_encoder.blocks.0.attn.rel_pos_h"].shape[1],
        global_attn_indexes=global_blocks,
        window_size=windows.pop() if windows else grid,
        image_size=grid * patch[2],
        patch_size=patch[2],
        mlp_dim=None if mlp_dim == 4 * patch[0] else mlp_dim,
        embed_dim=state[MASK_TOKENS].shape[1],
        decoder_depth=_count(state, r"mask_decoder\.transformer\.layers\.(\d+)\."),
        decoder_mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
        iou_head_dim=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        mask_in_chans=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )


def _hiera(state: Mapping[str, Tensor]) -> Architecture:
    """The row of this width and depth: heads, windows and global blocks show in no shape."""
    width = state[_HIERA].shape[0]
    depth = _count(state, r"image_encoder\.trunk\.blocks\.(\d+)\.")
    rows = {(row.encoder_dim, row.depth): row for row in VARIANTS.values() if row.hiera}
    if (width, depth) not in rows:
        raise ValueError(f"a Hiera of width {width} with {depth} blocks, expected one of {sorted(rows)}")
    return rows[width, depth]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for match in map(re.compile(pattern).match, state) if match})
