"""Hugging Face `transformers` weights of SAM 2 (Sam2Model, Sam2VideoModel) -> an official-format state dict.

Heads, windows and global blocks of a Hiera show in no shape, so the configuration is held to them here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from samhq_runtime.contract import FAMILIES, SAM2, Stability
from samhq_runtime.errors import CheckpointError

from ..architecture import Architecture, HieraStages
from .huggingface_config import Sections, decoder_sizes, require_values
from .infer import NOT_A_MODEL, architecture_of

SAM2_MODEL_TYPES = ("sam2", "sam2_video")

# What is left to rename where SAM's modules have their official names, one after another.
_RENAMED = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^vision_encoder\.backbone\.", "image_encoder.trunk."),
        (r"^vision_encoder\.neck\.convs\.(\d+)\.", r"image_encoder.neck.convs.\1.conv."),
        (r"\.patch_embed\.projection\.", ".patch_embed.proj."),
        (r"\.(blocks\.\d+)\.layer_norm([12])\.", r".\1.norm\2."),
        (r"\.((?:blocks|layers)\.\d+\.mlp)\.proj_in\.", r".\1.layers.0."),
        (r"\.((?:blocks|layers)\.\d+\.mlp)\.proj_out\.", r".\1.layers.1."),
        (r"\.o_proj\.", ".out_proj."),
        (r"^(mask_decoder|prompt_encoder)\.", r"sam_\1."),
        (r"^no_memory_embedding$", "no_mem_embed"),
        (r"^object_pointer_proj\.", "obj_ptr_proj."),  # from here on for videos
        (r"^temporal_positional_encoding_projection_layer\.", "obj_ptr_tpos_proj."),
        (r"^memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
        (r"^no_memory_positional_encoding$", "no_mem_pos_enc"),
        (r"^no_object_pointer$", "no_obj_ptr"),
        (r"^occlusion_spatial_embedding_parameter$", "no_obj_embed_spatial"),
    )
)
_POINTS = "sam_prompt_encoder.point_embed.weight"  # (4,C) here, four tensors (1,C) officially

# With their defaults: what no tensor shows and our modules compute in one way, and what tells one model from another.
_FIXED: Sections = {
    "vision_config": {
        "fpn_kernel_size": 1,
        "fpn_stride": 1,
        "fpn_padding": 0,
        "fpn_top_down_levels": (2, 3),
        "num_feature_levels": 3,
    },
    "backbone_config": {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "num_channels": 3,
        "patch_kernel_size": (7, 7),
        "patch_stride": (4, 4),
        "patch_padding": (3, 3),
        "query_stride": (2, 2),
        "num_query_pool_stages": 3,
        "mlp_ratio": 4.0,
    },
    "prompt_encoder_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_point_embeddings": 4, "scale": 1},
    "mask_decoder_config": {
        "attention_downsample_rate": 2,
        "iou_head_depth": 3,
        "num_attention_heads": 8,
        "num_multimask_outputs": 3,
    },
}
_TINY_SIZES: Sections = {
    "vision_config": {"fpn_hidden_size": 256, "backbone_channel_list": (768, 384, 192, 96)},
    "backbone_config": {
        "hidden_size": 96,
        "num_attention_heads": 1,
        "image_size": (1024, 1024),
        "window_positional_embedding_background_size": (7, 7),
        "blocks_per_stage": (1, 2, 7, 2),
        "embed_dim_per_stage": (96, 192, 384, 768),
        "num_attention_heads_per_stage": (1, 2, 4, 8),
        "window_size_per_stage": (8, 4, 14, 7),
        "global_attention_blocks": (5, 7, 9),
    },
    "prompt_encoder_config": {
        "hidden_size": 256,
        "image_size": (1024, 1024),
        "patch_size": (16, 16),
        "mask_input_channels": 16,
    },
    "mask_decoder_config": {"hidden_size": 256, "mlp_dim": 2048, "num_hidden_layers": 2, "iou_head_hidden_dim": 256},
}


def to_sam2_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights whose SAM modules are renamed already -> official names of SAM 2, those for videos too."""
    renamed = {_renamed(name): value for name, value in state.items()}
    points = renamed.pop(_POINTS, None)
    if points is not None:
        for index in range(len(points)):
            renamed[f"sam_prompt_encoder.point_embeddings.{index}.weight"] = points[index : index + 1]
    return renamed


def check_sam2_config(config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError unless `config` is of a SAM 2 that ours computes and whose weights are `state`."""
    sections = _sections(config)
    require_values(sections, _FIXED, _FIXED, "but only that value can be exported", path)
    stability = FAMILIES[SAM2].stability
    assert stability is not None
    fallback = _stability(stability)
    require_values(sections, fallback, fallback, "as SAM 2 was released: masks are chosen so", path)
    try:
        arch = architecture_of(state)
    except NOT_A_MODEL as e:
        raise CheckpointError(
            f"{path.name}: its tensors do not make a SAM 2 ({e}); expected every tensor that save_pretrained writes, "
            "download it again"
        ) from e
    assert arch.hiera is not None
    because = "as in the model of these tensors: config.json and weights are of two models"
    require_values(sections, _sizes_of(arch, arch.hiera), _TINY_SIZES, because, path)


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name


def _sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone's section lies inside the vision encoder's."""
    vision = config.get("vision_config")
    backbone = vision.get("backbone_config") if isinstance(vision, Mapping) else None
    return {**config, "backbone_config": backbone}


def _stability(stability: Stability) -> Sections:
    return {
        "mask_decoder_config": {
            "dynamic_multimask_via_stability": True,
            "dynamic_multimask_stability_delta": stability.delta,
            "dynamic_multimask_stability_thresh": stability.threshold,
        }
    }


def _sizes_of(arch: Architecture, stages: HieraStages) -> Sections:
    """The sizes of a row of `VARIANTS`, laid out as a configuration."""
    widths = tuple(arch.encoder_dim << stage for stage in range(len(stages.depths)))
    frame = (arch.image_size, arch.image_size)
    return {
        "vision_config": {"fpn_hidden_size": arch.embed_dim, "backbone_channel_list": widths[::-1]},
        "backbone_config": {
            "hidden_size": arch.encoder_dim,
            "num_attention_heads": arch.num_heads,
            "image_size": frame,
            "window_positional_embedding_background_size": (stages.position_side, stages.position_side),
            "blocks_per_stage": stages.depths,
            "embed_dim_per_stage": widths,
            "num_attention_heads_per_stage": tuple(arch.num_heads << stage for stage in range(len(stages.depths))),
            "window_size_per_stage": stages.window_sizes,
            "global_attention_blocks": arch.global_attn_indexes,
        },
        "prompt_encoder_config": {
            "hidden_size": arch.embed_dim,
            "image_size": frame,
            "patch_size": (arch.patch_size, arch.patch_size),
            "mask_input_channels": arch.mask_in_chans,
        },
        "mask_decoder_config": decoder_sizes(arch),
    }
