"""Tuned HQ tokens: the small file that turns one bundle into several fine-tuned models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import BackendUnavailable, CheckpointError, PromptError

_NAMES = ("hq_token", "mask_decoder.hf_token.weight")  # ours, and that of official state dicts


def read_hq_token(path: Path, *, embed_dim: int) -> NDArray[np.float32]:
    """An HQ token (1, embed_dim) float32 from a `.npy` file or a `.safetensors` file.

    A safetensors file may hold just the token, or name it `hq_token` or `mask_decoder.hf_token.weight` among others.

    Raises:
        CheckpointError: missing, unreadable, without a token, or of another shape.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected an HQ token as .safetensors or .npy")
    token = _read_npy(path) if path.suffix == ".npy" else _read_safetensors(path)
    try:
        return require_hq_token(token, embed_dim=embed_dim)
    except PromptError as e:
        raise CheckpointError(f"{path.name}: {e}") from e


def require_hq_token(values: ArrayLike, *, embed_dim: int) -> NDArray[np.float32]:
    """`values` as an HQ token (1, embed_dim) float32; PromptError if they are not that many finite floats."""
    token = np.asarray(values)
    if token.size != embed_dim or not np.issubdtype(token.dtype, np.floating) or not np.isfinite(token).all():
        raise PromptError(f"hq_token: got {token.dtype} {token.shape}, expected {embed_dim} finite floats")
    return token.reshape(1, embed_dim).astype(np.float32)


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as e:
        raise CheckpointError(f"{path.name}: cannot be read as a .npy file ({e})") from e


def _read_safetensors(path: Path) -> NDArray[Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ModuleNotFoundError as e:
        raise BackendUnavailable("safetensors is missing, HQ tokens are read with it: pip install safetensors") from e
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise CheckpointError(f"{path.name}: cannot be read as a .safetensors file ({e})") from e
    named = [tensors[name] for name in _NAMES if name in tensors]
    found = named or list(tensors.values())
    if len(found) != 1:
        raise CheckpointError(f"{path.name}: expected one tensor, or one named {_NAMES[0]}; got {sorted(tensors)}")
    return np.asarray(found[0])
