"""Names of tensors as programs store them -> official names: wrappers and one common prefix are taken off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samhq_runtime.errors import CheckpointError

from ..architecture import PIXEL_MEAN, PIXEL_STD
from .foreign import require_own_kind

# What DataParallel, torch.compile, FSDP and activation checkpointing put into names, at any depth.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
ROOTS = {
    "image_encoder",
    "prompt_encoder",
    "mask_decoder",
    "sam_prompt_encoder",
    "sam_mask_decoder",
    "vision_encoder",
    "shared_image_embedding",
}
_STATISTICS = {"pixel_mean": PIXEL_MEAN, "pixel_std": PIXEL_STD}
_DECODER = "mask_tokens.weight"  # a mask decoder's alone, as SAM-HQ's training writes it


def official_state(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`state` without wrappers, and without the prefix if all names have the same.

    A mask decoder's tensors alone come out below `mask_decoder.`.

    Raises:
        CheckpointError: adapted or foreign models, several prefixes, or tensors that become one.
    """
    require_own_kind(state, path)
    unwrapped = {key: ".".join(part for part in key.split(".") if part not in _WRAPPERS) for key in state}
    names = _without_prefix(set(unwrapped.values()), path)
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        name = names[unwrapped[key]]
        if name in result:
            raise CheckpointError(f"{path.name}: {key} and another tensor are both {name}; save one model alone")
        result[name] = value
    return {name: value for name, value in result.items() if not _is_statistic(name, value, path)}


def _is_statistic(name: str, value: Tensor, path: Path) -> bool:
    """Whether a tensor is the pixel mean or deviation that some forks store; CheckpointError if it is not SAM's."""
    expected = _STATISTICS.get(name)
    if expected is None or not value.is_floating_point() or value.is_meta or value.layout is not torch.strided:
        return False
    found = value.flatten()[:4].tolist()
    if len(found) != len(expected) or not np.allclose(found, expected, rtol=1e-3):  # half precision rounds
        raise CheckpointError(f"{path.name}: {name} is {found}, expected SAM's {list(expected)}")
    return True


def describes_sam(names: set[str]) -> bool:
    """Whether these are names of a SAM, or of its mask decoder, below whatever prefixes."""
    return any(_prefix_of(name) is not None or _is_decoder(name) for name in names)


def _without_prefix(names: set[str], path: Path) -> dict[str, str]:
    prefixes = {prefix for name in names if (prefix := _prefix_of(name)) is not None}
    if not prefixes:
        return _below_mask_decoder(names)
    outside = sorted(name for name in names if not name.startswith(tuple(prefixes)))
    if len(prefixes) > 1 or outside:
        others = f", and others such as {outside[0]}" if outside else ""
        below = ", ".join(repr(prefix) for prefix in sorted(prefixes))
        raise CheckpointError(
            f"{path.name}: holds names of a SAM below {below}{others}; expected one prefix of all names, or none: save "
            "the state dict of the SAM alone"
        )
    prefix = prefixes.pop()
    return {name: name.removeprefix(prefix) for name in names}


def _prefix_of(name: str) -> str | None:
    """What stands before the first part of a SAM's name; None if there is none."""
    parts = name.split(".")
    at = next((index for index, part in enumerate(parts) if part in ROOTS), None)
    return None if at is None else "".join(f"{part}." for part in parts[:at])


def _is_decoder(name: str) -> bool:
    return name == _DECODER or name.endswith(f".{_DECODER}")


def _below_mask_decoder(names: set[str]) -> dict[str, str]:
    """A mask decoder's names below `mask_decoder.`; other names as they are."""
    prefixes = {name.removesuffix(_DECODER) for name in names if _is_decoder(name)}
    if len(prefixes) != 1 or not all(name.startswith(tuple(prefixes)) for name in names):
        return {name: name for name in names}
    prefix = prefixes.pop()
    return {name: f"mask_decoder.{name.removeprefix(prefix)}" for name in names}
