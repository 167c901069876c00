"""Tuned HQ tokens: the small file that turns one bundle into several fine-tuned models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .contract import SAM, SAM2
from .errors import CheckpointError, PromptError, reason_of
from .installing import unavailable

_OWN_NAME = "hq_token"  # of any family
_NAMES = {  # of official and of Hugging Face state dicts
    SAM: ("mask_decoder.hf_token.weight", "mask_decoder.hq_token.weight"),
    SAM2: ("sam_mask_decoder.hf_token.weight",),
}
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16}  # numpy has no BF16


def read_hq_token(path: Path, *, embed_dim: int, token_fusion: str, family: str = SAM) -> NDArray[np.float32]:
    """An HQ token (1, embed_dim) float32 from a `.npy` file or a `.safetensors` file.

    A safetensors file may hold just the token, or name it `hq_token` or as SAM-HQ's or HQ-SAM 2's state dicts do among
    others. If its metadata name a `token_fusion` or a `family`, these must be this model's. A token without name and
    metadata does not tell which model it was trained for.

    Raises:
        CheckpointError: missing, unreadable, without a token, of another shape, or trained for another token fusion or
            family.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected an HQ token as .safetensors or .npy")
    token, metadata = (_read_npy(path), {}) if path.suffix == ".npy" else _read_safetensors(path, family)
    if metadata.get("family", family) != family:
        raise _of_another_family(path, f"metadata: family {metadata['family']}", family)
    trained = metadata.get("token_fusion", token_fusion)
    if trained != token_fusion:
        raise CheckpointError(
            f"{path.name}: was trained with token fusion {trained}, expected {token_fusion} as in this model; "
            "train it again, or use it with a model of its own fusion"
        )
    try:
        return require_hq_token(token, embed_dim=embed_dim)
    except PromptError as e:
        raise CheckpointError(f"{path.name}: {e}") from e


def require_hq_token(values: ArrayLike, *, embed_dim: int) -> NDArray[np.float32]:
    """`values` as an HQ token (1, embed_dim) float32; PromptError if they are not that many finite floats."""
    token = np.asarray(values)
    if token.size != embed_dim or not np.issubdtype(token.dtype, np.floating):
        raise PromptError(f"hq_token: got {token.dtype} {token.shape}, expected {embed_dim} finite floats")
    with np.errstate(over="ignore"):  # refused below
        single = token.reshape(1, embed_dim).astype(np.float32)
    if not np.isfinite(single).all():
        raise PromptError(f"hq_token: got NaN, infinity or beyond float32, expected {embed_dim} finite floats")
    return single


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.open_memmap(path, mode="r")  # nothing is read of one that is too large
    except Exception as e:  # a damaged header may raise whatever parsing text raises
        raise CheckpointError(f"{path.name}: cannot be read as a .npy file ({reason_of(e)})") from e


def _read_safetensors(path: Path, family: str) -> tuple[NDArray[Any], Mapping[str, str]]:
    """The token as it is stored, and the file's metadata."""
    try:
        from safetensors import SafetensorError, deserialize, safe_open
    except Exception as e:  # a broken native package raises whatever its loader does
        raise unavailable("safetensors", e, "pip install safetensors", use="HQ tokens are read with it") from e
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        tensors = dict(deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise CheckpointError(f"{path.name}: cannot be read as a .safetensors file ({e})") from e
    named = [tensors[name] for name in (_OWN_NAME, *_NAMES[family]) if name in tensors]
    others = [name for other, names in _NAMES.items() for name in names if other != family and name in tensors]
    if others and not named:
        raise _of_another_family(path, others[0], family)
    found = named or list(tensors.values())
    if len(found) != 1:
        raise CheckpointError(f"{path.name}: expected one tensor, or one named {_OWN_NAME}; got {sorted(tensors)}")
    return _array(found[0], path), metadata


def _of_another_family(path: Path, got: str, family: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name}: holds the HQ token of another family of models ({got}), expected one trained for {family} as "
        "this model"
    )


def _array(tensor: Mapping[str, Any], path: Path) -> NDArray[Any]:
    """What safetensors gives of one tensor (`dtype`, `shape`, `data`) as an array; bf16 is widened to float32."""
    dtype, shape, data = tensor["dtype"], tensor["shape"], tensor["data"]
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view(np.float32).reshape(shape)
    if dtype not in _DTYPES:
        raise CheckpointError(f"{path.name}: the token is of type {dtype}; expected {', '.join(_DTYPES)} or BF16")
    return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)
