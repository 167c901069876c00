"""Weights as they are stored -> tensors under their official names, with what else the files say."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from samhq_runtime.errors import CheckpointError, reason_of

from ..architecture import Architecture
from .huggingface import has_huggingface_names, is_huggingface, read_huggingface
from .plain_tensors import require_stored
from .released import RELEASES


@dataclass(frozen=True)
class StoredWeights:
    """What a weights file or folder holds.

    Attributes:
        state: tensors by official name.
        files: that hold the tensors, in the order of their names.
        metadata: strings that the file has beside its tensors.
        decoder_norm_eps: of the decoder's LayerNorms, which no tensor shows.
    """

    state: Mapping[str, Tensor]
    files: Sequence[Path]
    metadata: Mapping[str, str]
    decoder_norm_eps: float


def read_weights(path: Path) -> StoredWeights:
    """An official state dict (`.pth`, `.safetensors`) or Hugging Face weights.

    Raises:
        CheckpointError: unreadable, unsafe, or not a state dict of tensors.
    """
    if is_huggingface(path):
        theirs = read_huggingface(path)
        return StoredWeights(theirs.state, theirs.files, {}, theirs.decoder_norm_eps)
    content, metadata = _content(path)
    state = _unwrap(content, path)
    if has_huggingface_names(state, path):
        raise CheckpointError(
            f"{path.name}: holds Hugging Face weights as a pickle; expected the folder that transformers' "
            "save_pretrained writes, config.json with model.safetensors: load and save them once with transformers"
        )
    return StoredWeights(state, [path], metadata, Architecture.decoder_norm_eps)


def _content(path: Path) -> tuple[object, Mapping[str, str]]:
    """What a weights file holds, and its string metadata."""
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file; expected SAM-HQ or SAM weights (.pth, .safetensors, Hugging Face folder), "
            f"or a name: {', '.join(RELEASES)}"
        )
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return load_file(path), metadata
        require_stored(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol; our own message follows
            return torch.load(path, map_location="cpu", weights_only=True), {}
    except CheckpointError:
        raise
    except pickle.UnpicklingError as e:
        raise CheckpointError(
            f"{path.name}: refused, it is not a plain tensor file (it may hold code); "
            "expected a state dict saved with torch.save or safetensors"
        ) from e
    except Exception as e:  # torch's unpickler lets any exception out of a damaged file
        raise CheckpointError(
            f"{path.name}: cannot be read as a checkpoint ({reason_of(e)}); it may be truncated, download it again"
        ) from e


def _unwrap(content: object, path: Path) -> dict[str, Tensor]:
    """A flat name -> tensor mapping; training scripts wrap it as `model` or `state_dict`, or prefix it `module.`."""
    for wrapper in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path.name}: holds a {type(content).__name__}; expected a state dict of tensors")
    return {str(key).removeprefix("module."): value for key, value in content.items()}
