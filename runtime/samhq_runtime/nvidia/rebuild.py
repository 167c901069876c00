"""The command line that builds an engine of a bundle again, on the machine where it is typed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract import GraphSpec
from ..flags import flag_of
from .profiles import DEFAULT_RANGES, Range

if TYPE_CHECKING:
    from ..manifest import EngineEntry


def rebuild_command(bundle: Path, spec: GraphSpec, entry: EngineEntry, **changes: Any) -> str:
    """The `samhq engine` command for the same engine.

    Args:
        bundle: the bundle's folder.
        spec: the IO contract of the engine's graph.
        entry: the engine as the manifest describes it.
        changes: further flags of the new engine.
    """
    words = ["samhq", "engine", str(bundle), "--target", entry.flavour, "--graph", entry.graph]
    for name, ranges in _ranges(spec, entry.profiles).items():
        words += _flag(flag_of(name), list(map(str, ranges)))
    for name, value in {**entry.flags, **changes}.items():
        words += _flag(flag_of(name), value)
    return shlex.join([*words, "--overwrite"])


def sizes_of(spec: GraphSpec, profile: Mapping[str, Any]) -> dict[str, Range]:
    """The dynamic sizes that a profile of the manifest has room for, by name."""
    return {
        name: Range(*(profile[tensor.name][kind][axis] for kind in ("min", "opt", "max")))
        for tensor in spec.inputs
        if tensor.name in profile
        for axis, name in enumerate(tensor.shape)
        if isinstance(name, str)
    }


def _ranges(spec: GraphSpec, profiles: Sequence[Mapping[str, Any]]) -> dict[str, list[Range]]:
    """The dynamic sizes that are not the default, one range per profile."""
    found = [sizes_of(spec, profile) for profile in profiles]
    names = [name for name in DEFAULT_RANGES if any(name in sizes for sizes in found)]
    ranges = {name: [sizes[name] for sizes in found] for name in names}
    return {name: values for name, values in ranges.items() if set(values) != {DEFAULT_RANGES[name]}}


def _flag(flag: str, value: Any) -> list[str]:
    if value is True:
        return [flag]
    return [flag, ",".join(value) if isinstance(value, list) else str(value)]
