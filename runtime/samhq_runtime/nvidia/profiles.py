"""Optimisation profiles: the smallest, usual and largest shape of every dynamic input, from the IO contract.

Users set ranges for four dynamic sizes. `mask_inputs` follows from `prompts`: one mask may be shared by all prompts or
each prompt has its own, so it runs from 1 to the most prompts; it broadcasts against `prompts`, and TensorRT refuses a
profile whose usual (or smallest, or largest) sizes do not, hence 1 as the usual size: no mask prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..contract import NUM_TOKEN_MASKS, GraphSpec
from ..errors import ConfigError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Range:
    """Smallest, usual (tuned for) and largest value of a dynamic size."""

    min: int
    opt: int
    max: int

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter((self.min, self.opt, self.max))


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, usual and largest shape of one input."""

    min: Shape
    opt: Shape
    max: Shape

    def to_json(self) -> dict[str, list[int]]:
        return {"min": list(self.min), "opt": list(self.opt), "max": list(self.max)}


Profile = Mapping[str, ShapeRange]

DEFAULT_RANGES = {
    "images": Range(1, 1, 1),  # GPU memory for activations grows with the largest size
    "prompts": Range(1, 8, 64),
    "points": Range(1, 2, 16),  # a box, or a click with its padding point, is two
    "combinations": Range(1, 1, NUM_TOKEN_MASKS),
}
_SMALLEST = {"images": 1, "prompts": 1, "points": 0, "combinations": 1}  # a mask prompt alone has no points


def parse_ranges(name: str, text: str) -> tuple[Range, ...]:
    """`1:8:64` (or `8`, for 8:8:8) -> one Range; with commas one per profile.

    Raises:
        ConfigError: not numbers, not ascending, or sizes the graphs cannot have.
    """
    ranges = []
    for part in text.split(","):
        if not re.fullmatch(r"\d{1,9}(:\d{1,9}:\d{1,9})?", part):
            raise ConfigError(f"--{name}: got {part!r}, expected SMALLEST:USUAL:LARGEST such as {DEFAULT_RANGES[name]}")
        numbers = [int(number) for number in part.split(":")]
        ranges.append(_require_possible(name, Range(*(numbers if len(numbers) == 3 else numbers * 3))))
    return tuple(ranges)


def profiles_of(spec: GraphSpec, ranges: Mapping[str, tuple[Range, ...]]) -> tuple[Profile, ...]:
    """The profiles of one graph.

    Args:
        spec: the graph's IO contract.
        ranges: by dynamic size, one range for all profiles or one for each; `DEFAULT_RANGES` where missing.

    Raises:
        ConfigError: an unknown size, an impossible range, or sizes that give different numbers of profiles.
    """
    unknown = [name for name in ranges if name not in DEFAULT_RANGES]
    if unknown:
        raise ConfigError(f"{unknown[0]}: not a dynamic size of the graphs; choose from {', '.join(DEFAULT_RANGES)}")
    counts = {len(values) for values in ranges.values()} - {1}
    if len(counts) > 1 or 0 in counts:
        raise ConfigError(f"ranges for {sorted(counts)} profiles: give every size one range, or one for each profile")
    profiles: list[Profile] = []
    for index in range(counts.pop() if counts else 1):
        sizes = {**DEFAULT_RANGES, **{name: values[index % len(values)] for name, values in ranges.items()}}
        profile = _profile(spec, {name: _require_possible(name, size) for name, size in sizes.items()})
        if profile not in profiles:  # the encoder does not see most sizes
            profiles.append(profile)
    return tuple(profiles)


def _require_possible(name: str, size: Range) -> Range:
    smallest = _SMALLEST[name]
    if not smallest <= size.min <= size.opt <= size.max or size.max < 1:
        raise ConfigError(
            f"--{name}: got {size}, expected SMALLEST:USUAL:LARGEST in ascending order, at least {smallest}"
        )
    return size


def _profile(spec: GraphSpec, sizes: Mapping[str, Range]) -> Profile:
    bounds = [dict(zip(sizes, values, strict=True)) for values in zip(*sizes.values(), strict=True)]
    for bound, mask_inputs in zip(bounds, (1, 1, sizes["prompts"].max), strict=True):
        bound["mask_inputs"] = mask_inputs
    return {
        tensor.name: ShapeRange(
            *(tuple(bound[d] if isinstance(d, str) else d for d in tensor.shape) for bound in bounds)
        )
        for tensor in spec.inputs
        if any(isinstance(d, str) for d in tensor.shape)
    }
