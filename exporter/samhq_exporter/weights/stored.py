"""Weights as they are stored -> tensors under their official names, with what else the files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import safetensors
from safetensors.torch import load_file
from torch import Tensor

from samhq_runtime.errors import CheckpointError, reason_of

from ..architecture import Architecture
from .file_kind import require_safetensors, require_torch
from .huggingface import has_huggingface_names, is_huggingface, read_huggingface
from .names import official_state
from .nested import state_within
from .pickled import read_pickled
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
    """An official state dict (`.pth`, `.safetensors`), inside a training checkpoint or not, or Hugging Face weights.

    Raises:
        CheckpointError: unreadable, unsafe, not what its name says, not a state dict of tensors, or of another model.
    """
    if is_huggingface(path):
        theirs = read_huggingface(path)
        return StoredWeights(theirs.state, theirs.files, {}, theirs.decoder_norm_eps)
    content, metadata = _content(path)
    state = official_state(state_within(content, path), path)
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
    if path.suffix != ".safetensors":
        require_torch(path)
        require_stored(path)
        return read_pickled(path), {}
    require_safetensors(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), metadata
    except Exception as e:  # a damaged header may raise whatever parsing text raises
        raise CheckpointError(
            f"{path.name}: cannot be read as a checkpoint ({reason_of(e)}); it may be truncated, download it again"
        ) from e
