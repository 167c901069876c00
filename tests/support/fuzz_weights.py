"""Weights files as no program should write them, made of good ones by a seeded generator: structure, names, bytes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

State = dict[str, Any]
Change = Callable[[State, np.random.Generator], State]

_PREFIXES = ("module.", "_orig_mod.", "sam.", "model.", "image_encoder.", "teacher.", "x.lora_A.", "\0", "")
_KEYS: tuple[Any, ...] = ("model", "state_dict", "ema", "image_encoder", "mask_decoder", "", 0, None, ("a", 1), 1.5)
_VALUES: tuple[Any, ...] = (
    None, 3, "x", [], {}, [torch.zeros(1)], {"a": {"b": 1}}, np.float64(1), np.zeros(2), {1, 2}, 1j, b"x",
    argparse.Namespace(a=1), torch.zeros(0), torch.tensor(1.0), torch.float16, torch.device("cpu"), len, Path("x"),
)  # fmt: skip
_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", "")


def write_odd_weights(state: State, folder: Path, rng: np.random.Generator) -> Path:
    """A file in `folder` that holds a changed copy of `state`, perhaps under another kind's name, perhaps damaged."""
    content: Any = dict(state)
    for _ in range(rng.integers(1, 4)):
        content = _CHANGES[rng.integers(len(_CHANGES))](content, rng)
    path = folder / f"odd{_SUFFIXES[rng.integers(len(_SUFFIXES))]}"
    if rng.integers(4) == 0:
        dense = {key: value for key, value in content.items() if isinstance(value, torch.Tensor) and _is_dense(value)}
        save_file({str(key): value.clone().contiguous() for key, value in dense.items()}, path, {"token_fusion": "sum"})
    else:
        torch.save(content, path, _use_new_zipfile_serialization=bool(rng.integers(2)))
    if rng.integers(3) == 0:
        _damage(path, rng)
    return path


def _is_dense(value: torch.Tensor) -> bool:
    return value.layout is torch.strided and not value.is_meta


def _damage(path: Path, rng: np.random.Generator) -> None:
    """In the first bytes or the last, where formats have their structure; or cut."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 8)):
        place = int(rng.integers(0, min(4000, len(data))))
        data[place if rng.integers(2) else -1 - place] = rng.integers(256)
    path.write_bytes(data[: rng.integers(len(data))] if rng.integers(4) == 0 else data)


def _one_of(state: State, rng: np.random.Generator) -> Any:
    return list(state)[rng.integers(len(state))] if state else "none"


def _without_some(state: State, rng: np.random.Generator) -> State:
    return {key: value for key, value in state.items() if rng.integers(20)}


def _one_renamed(state: State, rng: np.random.Generator) -> State:
    key = _one_of(state, rng)
    return {(f"{key}x" if name == key else name): value for name, value in state.items()}


def _prefixed(state: State, rng: np.random.Generator) -> State:
    prefix, part = _PREFIXES[rng.integers(len(_PREFIXES))], rng.integers(3)
    return {(f"{prefix}{key}" if part or rng.integers(2) else key): value for key, value in state.items()}


def _wrapped(state: State, rng: np.random.Generator) -> State:
    keys = [_KEYS[rng.integers(len(_KEYS))] for _ in range(rng.integers(1, 3))]
    return dict.fromkeys(keys, state) | {"epoch": 3}


def _one_replaced(state: State, rng: np.random.Generator) -> State:
    return {**state, _one_of(state, rng): _VALUES[rng.integers(len(_VALUES))]}


def _one_added(state: State, rng: np.random.Generator) -> State:
    return {**state, _KEYS[rng.integers(len(_KEYS))]: _VALUES[rng.integers(len(_VALUES))]}


def _one_cast(state: State, rng: np.random.Generator) -> State:
    key = _one_of(state, rng)
    value = state.get(key)
    if not isinstance(value, torch.Tensor):
        return state
    casts: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
        torch.Tensor.half, torch.Tensor.bool, torch.Tensor.long, torch.Tensor.flatten, torch.Tensor.double,
        lambda t: t.to(torch.complex64), lambda t: t[None], lambda t: t * float("nan"), _emptied,
        lambda t: t.to_sparse(), lambda t: t.to("meta"), lambda t: torch.zeros(1).expand(1 << 20),
    )  # fmt: skip
    return {**state, key: casts[rng.integers(len(casts))](value)}


def _emptied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor[..., :0] if tensor.dim() else tensor.new_empty(0)


def _decoder_alone(state: State, rng: np.random.Generator) -> State:
    part = ("mask_decoder.", "image_encoder.", "prompt_encoder.")[rng.integers(3)]
    return {str(k).removeprefix(part): v for k, v in state.items() if str(k).startswith(part)}


_CHANGES: tuple[Change, ...] = (
    _without_some, _one_renamed, _prefixed, _wrapped, _one_replaced, _one_added, _one_cast, _one_cast, _decoder_alone,
)  # fmt: skip
