"""What `samhq bench` measures: one case per bundle, provider, kind of work and size, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..session.providers import names_by_graph, run_openvino

COLD_START = "cold start"
ENCODER = "encoder"
DECODER = "decoder"
END_TO_END = "end to end"
MEASURES = {
    COLD_START: "a new process, up to the first mask: imports, loading and hashing the bundle, one image, one box",
    ENCODER: "`image_encoder` alone, `images` at once",
    DECODER: "`mask_decoder` alone, `prompts` (in groups of 8) spread over `images`",
    END_TO_END: "image file to boolean masks of `prompts` boxes, at the size of the image",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the result. `bundle` is its folder; `provider` is text as `--providers` of other commands take it."""

    bundle: str
    provider: str
    measure: str
    prompts: int = 1
    images: int = 1

    @property
    def items(self) -> int:
        """What throughput and energy count in one call: images, or prompts of the decoder."""
        return {ENCODER: self.images, DECODER: self.prompts}.get(self.measure, 1)

    def __str__(self) -> str:
        sizes = sizes_of(self.measure, prompts=self.prompts, images=self.images)
        return ", ".join([Path(self.bundle).name, self.provider, self.measure, *sizes])


def sizes_of(measure: str, *, prompts: int, images: int) -> list[str]:
    """The sizes that mean something for a measure, in words."""
    counts = {"prompts": f"{prompts} prompts", "images": f"{images} images"}
    meaningful = {COLD_START: (), ENCODER: ("images",), DECODER: ("prompts", "images"), END_TO_END: ("prompts",)}
    return [counts[name] for name in meaningful[measure]]


@dataclass(frozen=True, kw_only=True)
class RepeatOptions:
    """How often a case is measured: `repeats` calls, or fewer (but at least three) once `seconds` have passed."""

    warm_ups: int | None = None
    repeats: int = 50
    seconds: float = 20.0

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.seconds <= 0 or (self.warm_ups or 0) < 0:
            raise ConfigError(
                f"got {self.repeats} repeats, {self.seconds} seconds, {self.warm_ups} warm-ups; "
                "expected at least 1 repeat, more than 0 seconds, 0 or more warm-ups"
            )

    def warm_ups_on(self, provider: str) -> int:
        """GPUs need more calls to reach their clocks and to choose their kernels."""
        if self.warm_ups is not None:
            return self.warm_ups
        names = {name for chosen in names_by_graph(provider).values() for name in chosen}
        return 3 if all(name == "cpu" or run_openvino([name]) for name in names) else 20


def plan(
    bundles: Sequence[Path],
    *,
    providers: Sequence[str],
    measures: Sequence[str],
    prompts: Sequence[int],
    images: Sequence[int],
) -> list[Case]:
    """All cases, cold starts first: they show at once whether a bundle or a provider is missing here.

    Raises:
        ConfigError: two bundles of one name, or sizes below 1.
    """
    names = [path.resolve().name for path in bundles]
    if len(set(names)) != len(names):
        raise ConfigError(f"bundles {', '.join(names)}: expected folders of different names, they label the results")
    if any(size < 1 for size in (*prompts, *images)):
        raise ConfigError(f"got prompts {list(prompts)}, images {list(images)}; expected numbers from 1")
    sizes: dict[str, list[dict[str, Any]]] = {
        COLD_START: [{}],
        ENCODER: [{"images": i} for i in images],
        DECODER: [{"prompts": p, "images": i} for i in images for p in prompts],
        END_TO_END: [{"prompts": p} for p in prompts],
    }
    return [
        Case(bundle=str(bundle.resolve()), provider=provider, measure=measure, **size)
        for measure in MEASURES
        if measure in measures
        for bundle in bundles
        for provider in providers
        for size in sizes[measure]
    ]
