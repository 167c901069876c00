"""The official SAM 2.1 of the PyPI package `sam2`, in any size: the reference of plain SAM 2.

Its build takes the torch that is installed, or downloads one of its own, so no extra names it: `INSTALL` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .official import import_official
from .sam2_weights import seeded_state

INSTALL = (
    "python -m pip install hydra-core iopath setuptools wheel && "
    "SAM2_BUILD_CUDA=0 python -m pip install --no-deps --no-build-isolation sam2==1.1.0"
)
_CONFIGS = {"hiera_tiny": "t", "hiera_small": "s", "hiera_base_plus": "b+", "hiera_large": "l", "hiera_demo": "l"}
_TRUNK, _NECK = "model.image_encoder.trunk", "model.image_encoder.neck"
_ATTENTION, _ENCODER = "model.memory_attention", "model.memory_encoder"
_DEMO_SIZES = [  # as changes of the large one's
    f"{_TRUNK}.embed_dim=16",
    f"{_TRUNK}.num_heads=1",
    f"{_TRUNK}.stages=[1,2,3,1]",
    f"{_TRUNK}.global_att_blocks=[4]",
    f"{_TRUNK}.window_spec=[8,4,14,7]",
    f"{_NECK}.d_model=64",
    f"{_NECK}.backbone_channel_list=[128,64,32,16]",
    f"{_NECK}.position_encoding.num_pos_feats=64",
    f"{_ATTENTION}.d_model=64",
    f"{_ATTENTION}.layer.d_model=64",
    f"{_ATTENTION}.layer.dim_feedforward=128",
    f"{_ATTENTION}.layer.self_attention.embedding_dim=64",
    f"{_ATTENTION}.layer.cross_attention.embedding_dim=64",
    f"{_ATTENTION}.layer.cross_attention.kv_in_dim=16",
    f"{_ENCODER}.out_dim=16",
    f"++{_ENCODER}.in_dim=64",
    f"{_ENCODER}.position_encoding.num_pos_feats=16",
    f"{_ENCODER}.fuser.layer.dim=64",
    f"++{_ENCODER}.mask_downsampler.embed_dim=64",
    "model.image_size=256",
]


def official_sam2(variant: str) -> nn.Module:
    """`SAM2Base` of these sizes as `build_sam2` makes it, with seeded weights; without the package the test is skipped.

    Those for videos are among the weights, as in the released files.
    """
    import_official("sam2", install=INSTALL)
    from sam2.build_sam import build_sam2

    config = f"configs/sam2.1/sam2.1_hiera_{_CONFIGS[variant]}.yaml"
    sizes = _DEMO_SIZES if variant == "hiera_demo" else []
    model: nn.Module = build_sam2(config, device="cpu", hydra_overrides_extra=list(sizes))
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    values = {name: torch.from_numpy(value) for name, value in seeded_state(shapes).items()}
    model.load_state_dict(values, strict=True)
    return model.requires_grad_(False)


def save_official(model: nn.Module, path: Path) -> Path:
    """As the official files are."""
    torch.save({"model": model.state_dict()}, path)
    return path


def official_predictor(model: Any) -> Any:
    """`SAM2ImagePredictor`, for models of other input sizes than 1024 pixels too.

    Its `unclamped` are the low-resolution logits that the last masks were made of; it returns them clamped.
    """
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(model.image_size // stride,) * 2 for stride in (4, 8, 16)]
    postprocess = predictor._transforms.postprocess_masks

    def kept(masks: torch.Tensor, original_hw: Any) -> torch.Tensor:
        predictor.unclamped = masks[0].numpy()
        return postprocess(masks, original_hw)

    predictor._transforms.postprocess_masks = kept
    return predictor
