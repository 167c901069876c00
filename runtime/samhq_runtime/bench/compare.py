"""Two result files side by side: ratios of medians with their spread, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BenchmarkError
from ..tables import format_table
from .stats import Ratio, ratio_of_medians

_KEY = ("provider", "measure", "prompts", "images")


@dataclass(frozen=True)
class Comparison:
    """One case in both files; `memory` is the ratio of peak host memory, if both runs measured it."""

    name: str
    time: Ratio
    memory: float | None

    def regression(self, most: float) -> str:
        """What got worse by more than `most` (0.1 is 10 %), or an empty string.

        Time counts as worse when its median is beyond the bound and the whole interval above 1: noise alone is not.
        """
        bound = 1 + most
        worse = [f"{self.time.value:.2f} times the time"] if self.time.value > bound and self.time.low > 1 else []
        worse += [f"{self.memory:.2f} times the memory"] if self.memory and self.memory > bound else []
        return " and ".join(worse)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Comparison]:
    """The cases of `old`, each with its counterpart in `new`.

    Bundles are distinguished by name; if each file has one bundle, those two are compared whatever they are called.

    Raises:
        BenchmarkError: a case of `old` was not measured in `new`, so nothing can be said of it.
    """
    single = all(len({row["bundle"] for row in results["rows"]}) == 1 for results in (old, new))
    old_rows, new_rows = ({_key(row, single): row for row in results["rows"]} for results in (old, new))
    missing = [_name(row) for key, row in old_rows.items() if key not in new_rows]
    if missing:
        raise BenchmarkError(f"not measured in the new results: {'; '.join(missing)}; run the same cases again")
    return [
        Comparison(
            _name(row),
            ratio_of_medians(new_rows[key]["seconds"], row["seconds"]),
            _memory_ratio(row, new_rows[key]),
        )
        for key, row in old_rows.items()
    ]


def comparison_table(comparisons: list[Comparison], *, most: float) -> str:
    rows = [
        (c.name, str(c.time), "-" if c.memory is None else f"{c.memory:.2f}", c.regression(most) or "ok")
        for c in comparisons
    ]
    return format_table(("case", "time, new / old (95 %)", "memory", "verdict"), rows)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What makes the two runs hard to compare: other hardware or clocks, threads, picture."""
    names = {"cpu": ("machine", "cpu"), "gpus": ("machine", "gpus"), "jetson": ("machine", "jetson")}
    found = []
    for name, (part, field) in names.items():
        before, after = (_identity(results[part].get(field)) for results in (old, new))
        if before != after:
            found.append(f"{name}: {before} before, {after} now")
    before, after = old.get("settings"), new.get("settings")
    return found + ([f"settings: {before} before, {after} now"] if before != after else [])


def _identity(device: Any) -> Any:
    """A description without what changes from minute to minute."""
    if isinstance(device, list):
        return [_identity(item) for item in device]
    fields = device or {}
    return {name: value for name, value in fields.items() if not name.endswith("_at_start") and name != "gpu_mhz"}


def _key(row: Mapping[str, Any], single: bool) -> tuple[Any, ...]:
    return ("" if single else row["bundle"], *(row[name] for name in _KEY))


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['bundle']}, {row['provider']}, {row['measure']}, {row['prompts']} prompts, {row['images']} images"


def _memory_ratio(old: Mapping[str, Any], new: Mapping[str, Any]) -> float | None:
    before, after = (row["host_bytes"].get("peak") for row in (old, new))
    return after / before if before and after else None
