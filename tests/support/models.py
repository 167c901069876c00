"""Seeded models and their files: tiny ones, small and awkward on purpose, and those of the official sizes."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from samhq_exporter.architecture import VARIANTS, Architecture
from samhq_exporter.model import Sam, Sam2
from samhq_exporter.weights.checkpoint import to_official_keys

from .parity import randomise

State = dict[str, Tensor]

_NAMES_IN_SAM2 = (
    (r"^image_encoder\.neck\.conv_s", "mask_decoder.conv_s"),
    (r"^image_encoder\.neck\.no_mem_embed$", "no_mem_embed"),
    (r"^mask_decoder\.hq_", "mask_decoder.hf_"),
    (r"^(mask_decoder|prompt_encoder)\.", r"sam_\1."),
    (r"\.((?:blocks|layers)\.\d+\.mlp)\.lin1\.", r".\1.layers.0."),
    (r"\.((?:blocks|layers)\.\d+\.mlp)\.lin2\.", r".\1.layers.1."),
)

# Small, and awkward on purpose: windows that need padding, an odd number of heads, several global blocks.
TINY = Architecture(
    encoder_dim=48,
    depth=4,
    num_heads=3,
    global_attn_indexes=(1, 3),
    window_size=5,
    image_size=128,
    patch_size=16,
    embed_dim=64,
    decoder_mlp_dim=96,
    iou_head_dim=32,
    mask_in_chans=8,
)


def tiny_sam(*, seed: int = 0, token_fusion: str = "independent") -> Sam:
    return seeded_sam(TINY, seed=seed, token_fusion=token_fusion)


def seeded_sam(arch: Architecture, *, seed: int = 0, token_fusion: str = "independent") -> Sam:
    """Every parameter random, so that none of them can be lost unseen."""
    sam = Sam(arch, token_fusion=token_fusion)
    randomise(sam, seed=seed)
    return sam.eval().requires_grad_(False)


def seeded_checkpoint(variant: str, folder: Path) -> Path:
    """`folder`/sam_hq_VARIANT.pth, made unless it is there; official names, seeded weights. Of a Hiera an HQ-SAM 2."""
    path = folder / f"sam_hq_{variant}.pth"
    if path.exists():
        return path
    if not VARIANTS[variant].hiera:
        return save_checkpoint(seeded_sam(VARIANTS[variant]), path)
    sam2 = Sam2(VARIANTS[variant])
    randomise(sam2, seed=0)
    torch.save({"model": {_name_in_sam2(key): value for key, value in sam2.state_dict().items()}}, path)
    return path


def save_checkpoint(sam: Sam, path: Path) -> Path:
    state = to_official_keys(sam.state_dict())
    torch.save(_with_batchnorms(state) if sam.arch.stages else state, path)
    return path


def _with_batchnorms(state: State) -> State:
    """`fold_batchnorm` undone: every convolution that has a bias, followed by a batch norm that does nothing else."""
    undone = dict(state)
    for name in [key.removesuffix(".weight") for key, value in state.items() if value.ndim == 4]:
        if f"{name}.bias" not in state or not name.startswith("image_encoder."):
            continue
        undone[f"{name}.c.weight"], bias = undone.pop(f"{name}.weight"), undone.pop(f"{name}.bias")
        names = {"weight": torch.ones_like(bias), "bias": bias}
        names |= {"running_mean": torch.zeros_like(bias), "running_var": torch.ones_like(bias)}
        undone |= {f"{name}.bn.{part}": value for part, value in names.items()}
    return undone


def _name_in_sam2(key: str) -> str:
    """The official name of a parameter of our `Sam2`."""
    for pattern, official in _NAMES_IN_SAM2:
        key = re.sub(pattern, official, key)
    return key


def save_state(state: State, path: Path, metadata: dict[str, str] | None = None) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    else:
        torch.save(state, path)
    return path
