"""Does a `transformers` configuration describe a model that ours computes, and the tensors it came with?

A value that `config.json` leaves out has transformers' default, which is why each table names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from samhq_runtime.errors import CheckpointError

from ..architecture import Architecture
from .infer import NOT_A_MODEL, architecture_of

MODEL_TYPES = ("sam_hq", "sam")
Sections = Mapping[str, Mapping[str, object]]  # settings by section of config.json

# Settings that no tensor shows: the one value our modules compute, also the default.
FIXED: Sections = {
    "vision_config": {
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "num_channels": 3,
        "qkv_bias": True,
        "use_abs_pos": True,
        "use_rel_pos": True,
    },
    "prompt_encoder_config": {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "num_point_embeddings": 4},
    "mask_decoder_config": {
        "hidden_act": "relu",
        "attention_downsample_rate": 2,
        "iou_head_depth": 3,
        "num_attention_heads": 8,
        "num_multimask_outputs": 3,
    },
}

# Sizes that the tensors show as well, with their defaults.
SIZES: Sections = {
    "vision_config": {
        "hidden_size": 768,
        "output_channels": 256,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 1024,
        "patch_size": 16,
        "window_size": 14,
        "global_attn_indexes": (2, 5, 8, 11),
        "num_pos_feats": 128,
        "mlp_dim": None,  # mlp_ratio * hidden_size
    },
    "prompt_encoder_config": {"hidden_size": 256, "image_size": 1024, "patch_size": 16, "mask_input_channels": 16},
    "mask_decoder_config": {"hidden_size": 256, "mlp_dim": 2048, "num_hidden_layers": 2, "iou_head_hidden_dim": 256},
}
HQ_SIZES: Sections = {"mask_decoder_config": {"vit_dim": 768}}
_MLP_RATIO = 4.0
_MOST_MLP_RATIO = 1000
DECODER_NORM_EPS = 1e-6  # default of mask_decoder_config.layer_norm_eps; the official packages have 1e-5


def check_config(config: Mapping[str, Any], state: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError unless `config` is of a SAM or SAM-HQ model whose weights are `state`, named officially."""
    model_type = config.get("model_type")
    if model_type not in MODEL_TYPES:
        raise CheckpointError(
            f"{path.name}: a model of type {model_type!r} by its config.json; expected {', '.join(MODEL_TYPES)} or "
            "sam2, for example syscv-community/sam-hq-vit-base"
        )
    require_values(config, FIXED, FIXED, "but only that value can be exported", path)
    try:
        held = _sizes_of(state, hq=model_type == "sam_hq")
    except NOT_A_MODEL as e:
        raise CheckpointError(
            f"{path.name}: its tensors do not make a {model_type} model ({e}); expected every tensor that "
            "save_pretrained writes, download it again"
        ) from e
    defaults = {section: {**SIZES[section], **HQ_SIZES.get(section, {})} for section in SIZES}
    require_values(
        config, held, defaults, "by the shapes of the tensors: config.json and weights are of two models", path
    )


def decoder_norm_eps(config: Mapping[str, Any], path: Path) -> float:
    """`layer_norm_eps` of a checked configuration's decoder, which normalises its tokens with it."""
    eps = config.get("mask_decoder_config", {}).get("layer_norm_eps", DECODER_NORM_EPS)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise CheckpointError(
            f"{path.name}: mask_decoder_config.layer_norm_eps is {eps!r}, expected a number between 0 and 1; "
            "download config.json again"
        )
    return eps


def require_values(config: Mapping[str, Any], expected: Sections, defaults: Sections, because: str, path: Path) -> None:
    """Raise CheckpointError, ending in `because`, unless the sections of `config` hold the expected values.

    What a section leaves out has its default; where a pair is expected, one number stands for both.
    """
    for section, values in expected.items():
        given = config.get(section) or {}
        if not isinstance(given, Mapping):
            raise CheckpointError(
                f"{path.name}: {section} is {given!r}, expected an object; download config.json again"
            )
        for name, value in values.items():
            got = given.get(name, defaults[section][name])
            if name == "mlp_dim" and got is None:
                got = _mlp_dim(given, path)
            got = _as_tuple(got, value)
            if got != value:
                raise CheckpointError(f"{path.name}: {section}.{name} is {got!r}, expected {value!r} {because}")


def _as_tuple(got: object, expected: object) -> object:
    """JSON has no tuples."""
    if isinstance(expected, tuple) and type(got) is int:
        return (got,) * len(expected)
    return tuple(got) if isinstance(got, list) else got


def _mlp_dim(vision: Mapping[str, Any], path: Path) -> int:
    size, ratio = vision.get("hidden_size", SIZES["vision_config"]["hidden_size"]), vision.get("mlp_ratio", _MLP_RATIO)
    if type(size) is not int or type(ratio) not in (int, float) or not 0 < ratio < _MOST_MLP_RATIO:
        raise CheckpointError(
            f"{path.name}: vision_config has hidden_size {size!r} and mlp_ratio {ratio!r}, expected a whole number and "
            f"a number below {_MOST_MLP_RATIO}; download config.json again"
        )
    return int(size * ratio)


def _sizes_of(state: Mapping[str, Tensor], *, hq: bool) -> dict[str, dict[str, object]]:
    """What the shapes of an official-format state dict say, laid out as a configuration."""
    arch = architecture_of(state)
    frame = {"image_size": arch.image_size, "patch_size": arch.patch_size}
    windowed = len(arch.global_attn_indexes) < arch.depth
    return {
        "vision_config": {
            **frame,
            "hidden_size": arch.encoder_dim,
            "output_channels": state["image_encoder.neck.0.weight"].shape[0],
            "num_hidden_layers": arch.depth,
            "num_attention_heads": arch.num_heads,
            **({"window_size": arch.window_size} if windowed else {}),
            "global_attn_indexes": arch.global_attn_indexes,
            "num_pos_feats": state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].shape[1],
            "mlp_dim": arch.encoder_mlp_dim,
        },
        "prompt_encoder_config": {
            **frame,
            "hidden_size": state["prompt_encoder.no_mask_embed.weight"].shape[1],
            "mask_input_channels": arch.mask_in_chans,
        },
        "mask_decoder_config": {
            **decoder_sizes(arch),
            **({"vit_dim": state["mask_decoder.compress_vit_feat.0.weight"].shape[0]} if hq else {}),
        },
    }


def decoder_sizes(arch: Architecture) -> dict[str, object]:
    """Of the mask decoder, which every family has, in the words of a configuration."""
    return {
        "hidden_size": arch.embed_dim,
        "mlp_dim": arch.decoder_mlp_dim,
        "num_hidden_layers": arch.decoder_depth,
        "iou_head_hidden_dim": arch.iou_head_dim,
    }
