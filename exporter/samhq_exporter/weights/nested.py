"""What a training checkpoint holds -> the one mapping of names to tensors that describes a SAM, whatever its key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from samhq_runtime.errors import CheckpointError

from .names import ROOTS, describes_sam

Keys = tuple[object, ...]
_DEEPEST = 5  # levels of keys


def state_within(content: object, path: Path) -> dict[str, Tensor]:
    """The state dict in `content`; what else stands beside it, or beside its tensors, is not looked at.

    Without one that describes a SAM it is the largest, for others to say what it lacks.

    Raises:
        CheckpointError: no state dict, or several that describe a SAM.
    """
    found = list(_state_dicts(content, (), set()))
    candidates = [(keys, state) for keys, state in found if describes_sam(set(state))]
    if len(candidates) > 1:
        listed = ", ".join(f"content{_spelt(keys)}" for keys, _ in candidates)
        raise CheckpointError(
            f"{path.name}: holds several models, {listed}; expected one: save the one "
            f"you want alone, with content = torch.load({path.name!r}, weights_only=True) and "
            f"torch.save(content{_spelt(candidates[0][0])}, 'weights.pth')"
        )
    if not found:
        raise CheckpointError(f"{path.name}: holds {_described(content)}; expected a state dict of tensors")
    return max(candidates or found, key=lambda item: len(item[1]))[1]


def _state_dicts(content: object, keys: Keys, seen: set[int]) -> Iterator[tuple[Keys, dict[str, Tensor]]]:
    """Every mapping that holds tensors by name, or modules of a SAM by name, and the keys that lead to it."""
    if not isinstance(content, Mapping) or len(keys) > _DEEPEST or id(content) in seen:
        return
    seen.add(id(content))
    inside = _tensors(content)
    for name, value in content.items():
        if name in ROOTS and isinstance(value, Mapping):  # one state dict for each module
            inside |= {f"{name}.{key}": tensor for key, tensor in _tensors(value).items()}
            seen.add(id(value))
    if inside or not (content or keys):
        yield keys, inside
    for name, value in content.items():
        yield from _state_dicts(value, (*keys, name), seen)


def _tensors(content: Mapping[object, object]) -> dict[str, Tensor]:
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def _spelt(keys: Keys) -> str:
    return "".join(f"[{key!r}]" for key in keys)


def _described(content: object) -> str:
    if isinstance(content, Mapping) and content:
        keys = ", ".join(str(key) for key in list(content)[:5])
        return f"a {type(content).__name__} without tensors ({keys}{', ...' if len(content) > 5 else ''})"
    return f"a {type(content).__name__}"
