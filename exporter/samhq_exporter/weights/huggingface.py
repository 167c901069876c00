"""Hugging Face `transformers` weights (SamHQModel, SamModel, Sam2Model) -> an official-format state dict.

Reads what `save_pretrained` writes: `config.json` and `model.safetensors`, whole or in shards. `transformers` itself is
not needed, and nothing in the folder is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from samhq_runtime.errors import CheckpointError, reason_of
from samhq_runtime.file_kinds import kind_of

from ..architecture import Architecture
from .file_kind import require_safetensors
from .huggingface_config import check_config, decoder_norm_eps
from .huggingface_sam2 import SAM2_MODEL_TYPES, check_sam2_config, to_sam2_names

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_ADAPTER = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
_OTHER_WEIGHTS = (".pth", ".pt", ".ckpt", ".safetensors")

# (module in transformers, module in the official packages), regular expressions of whole names.
# Upstream numbers what has names here.
_MLP = r"mask_decoder\.(output_hypernetworks_mlps\.\d+|iou_prediction_head|pred_obj_score_head)"
_MODULES = tuple(
    (re.compile(module), official)
    for module, official in (
        (r"vision_encoder", "image_encoder"),
        (r"vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
        (r"vision_encoder\.layers\.(\d+)\.layer_norm([12])", r"image_encoder.blocks.\1.norm\2"),
        (r"vision_encoder\.layers\.(\d+\..+)", r"image_encoder.blocks.\1"),
        (r"vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
        (r"vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
        (r"vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
        (r"vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
        (r"shared_image_embedding|prompt_encoder\.shared_embedding", "prompt_encoder.pe_layer"),
        (r"prompt_encoder\.point_embed\.(\d+)", r"prompt_encoder.point_embeddings.\1"),
        (r"prompt_encoder\.mask_embed\.conv1", "prompt_encoder.mask_downscaling.0"),
        (r"prompt_encoder\.mask_embed\.layer_norm1", "prompt_encoder.mask_downscaling.1"),
        (r"prompt_encoder\.mask_embed\.conv2", "prompt_encoder.mask_downscaling.3"),
        (r"prompt_encoder\.mask_embed\.layer_norm2", "prompt_encoder.mask_downscaling.4"),
        (r"prompt_encoder\.mask_embed\.conv3", "prompt_encoder.mask_downscaling.6"),
        (r"(mask_decoder\.transformer\.layers\.\d+)\.layer_norm([1-4])", r"\1.norm\2"),
        (r"(mask_decoder\.transformer)\.layer_norm_final_attn", r"\1.norm_final_attn"),
        (_MLP + r"\.proj_in", r"mask_decoder.\1.layers.0"),
        (_MLP + r"\.layers\.0", r"mask_decoder.\1.layers.1"),
        (_MLP + r"\.proj_out", r"mask_decoder.\1.layers.2"),
        (r"mask_decoder\.hq_mask_mlp\.proj_in", "mask_decoder.hf_mlp.layers.0"),
        (r"mask_decoder\.hq_mask_mlp\.layers\.0", "mask_decoder.hf_mlp.layers.1"),
        (r"mask_decoder\.hq_mask_mlp\.proj_out", "mask_decoder.hf_mlp.layers.2"),
        (r"mask_decoder\.hq_token", "mask_decoder.hf_token"),
        (r"mask_decoder\.upscale_conv1", "mask_decoder.output_upscaling.0"),
        (r"mask_decoder\.upscale_layer_norm", "mask_decoder.output_upscaling.1"),
        (r"mask_decoder\.upscale_conv2", "mask_decoder.output_upscaling.3"),
        (r"mask_decoder\.compress_vit_conv1", "mask_decoder.compress_vit_feat.0"),
        (r"mask_decoder\.compress_vit_norm", "mask_decoder.compress_vit_feat.1"),
        (r"mask_decoder\.compress_vit_conv2", "mask_decoder.compress_vit_feat.3"),
        (r"mask_decoder\.encoder_conv1", "mask_decoder.embedding_encoder.0"),
        (r"mask_decoder\.encoder_norm", "mask_decoder.embedding_encoder.1"),
        (r"mask_decoder\.encoder_conv2", "mask_decoder.embedding_encoder.3"),
        (r"mask_decoder\.mask_conv1", "mask_decoder.embedding_maskfeature.0"),
        (r"mask_decoder\.mask_norm", "mask_decoder.embedding_maskfeature.1"),
        (r"mask_decoder\.mask_conv2", "mask_decoder.embedding_maskfeature.3"),
    )
)
_PARAMETERS = {"positional_embedding": "positional_encoding_gaussian_matrix"}


@dataclass(frozen=True)
class HuggingFaceWeights:
    """A folder, read once: tensors by official name, the files that hold them, eps of the decoder's LayerNorms."""

    state: dict[str, Tensor]
    files: list[Path]
    decoder_norm_eps: float


def is_huggingface(path: Path) -> bool:
    """Whether `read_huggingface` is the reader for this path: a folder, or a .safetensors file with such names.

    Raises:
        CheckpointError: the file mixes the names of both layouts.
    """
    if path.is_dir():
        return True
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
    except (OSError, safetensors.SafetensorError):
        return False  # damaged: whoever reads it says so
    return has_huggingface_names(names, path)


def has_huggingface_names(names: Iterable[str], path: Path) -> bool:
    """Whether tensors are named as in transformers; CheckpointError if some are, and some as in official files."""
    names = list(names)
    official, theirs = (
        [name for name in names if name.startswith(part)] for part in ("image_encoder.", "vision_encoder.")
    )
    if official and theirs:
        raise CheckpointError(
            f"{path.name}: mixes two layouts, {len(official)} official names such as {official[0]} and {len(theirs)} "
            f"of Hugging Face such as {theirs[0]}; expected one of them: save the model again"
        )
    return bool(theirs)


def read_huggingface(path: Path) -> HuggingFaceWeights:
    """The weights of a `transformers` SAM-HQ, SAM or SAM 2 model, named as in the official checkpoints.

    Args:
        path: a folder written by `save_pretrained`, or one .safetensors file beside its `config.json`.

    Raises:
        CheckpointError: files missing or damaged, another kind of model, settings that our modules do not compute,
            or a configuration that does not describe the tensors.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (folder / _ADAPTER).is_file():
        raise CheckpointError(
            f"{path}: an adapter of peft (LoRA) by its {_ADAPTER}, which holds updates of another model; merge them "
            "into it first (model.merge_and_unload().save_pretrained) and give that folder"
        )
    config = _read_json(folder / _CONFIG)
    files = weight_files(path)
    stored: dict[str, Tensor] = {}
    for file in files:
        stored |= _read_tensors(file)
    state = to_official_names(stored, path)
    if config.get("model_type") in SAM2_MODEL_TYPES:
        state = to_sam2_names(state)
        check_sam2_config(config, state, path)
        return HuggingFaceWeights(state, files, Architecture.decoder_norm_eps)
    check_config(config, state, path)
    return HuggingFaceWeights(state, files, decoder_norm_eps(config, path))


def weight_files(path: Path) -> list[Path]:
    """The files that hold the tensors, in the order of their names: one, or the shards that the index lists."""
    if path.is_file():
        return [path]
    if (path / _WEIGHTS).is_file():
        return [path / _WEIGHTS]
    if not (path / _INDEX).is_file():
        others = sorted(file.name for file in path.iterdir() if file.suffix in _OTHER_WEIGHTS)
        raise CheckpointError(
            f"{path}: neither {_WEIGHTS} nor {_INDEX} is here; expected a folder written by save_pretrained with "
            "safetensors (older pickled weights: load and save them once with transformers)"
            + (f", or the file itself: {path / others[0]}" if others else "")
        )
    weight_map = _read_json(path / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path / _INDEX}: no weight_map in it; expected tensor -> file, download it again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{path / _INDEX}: lists {name!r}; expected .safetensors files of the same folder")
        if not (path / name).is_file():
            raise CheckpointError(f"{path}: {name} is missing, one of {len(names)} shards; download it again")
    return [path / name for name in names]


def to_official_names(stored: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename every tensor; unknown names stay, for strict loading to report."""
    state: dict[str, Tensor] = {}
    for key, value in stored.items():
        name = _official_name(key)
        if name in state and not torch.equal(state[name], value):
            raise CheckpointError(
                f"{path.name}: {key} differs from its twin, both are {name} here; expected the same values "
                "(transformers ties them): save the model again with transformers"
            )
        state[name] = value
    return state


def _official_name(key: str) -> str:
    module, dot, parameter = key.rpartition(".")
    for pattern, official in _MODULES:
        match = pattern.fullmatch(module)
        if match:
            module = match.expand(official)
            break
    return f"{module}{dot}{_PARAMETERS.get(parameter, parameter)}"


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise CheckpointError(f"{file}: no such file; expected it beside the weights, as save_pretrained does") from e
    except (OSError, ValueError, RecursionError) as e:
        kind = kind_of(file) if file.is_file() else None
        raise CheckpointError(f"{file}: cannot be read as JSON ({kind or e}); download it again") from e
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds a {type(content).__name__}; expected a JSON object, download it again")
    return content


def _read_tensors(file: Path) -> dict[str, Tensor]:
    require_safetensors(file)
    try:
        return load_file(file)
    except (OSError, RuntimeError, ValueError, KeyError, safetensors.SafetensorError) as e:
        raise CheckpointError(
            f"{file.name}: cannot be read as safetensors ({reason_of(e)}); it may be truncated, download it again"
        ) from e
