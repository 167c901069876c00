"""TensorRT versions that have computed wrong numbers without a word, as reported to NVIDIA (docs/tensorrt.md).

An entry says where a bug was seen, not that our graphs meet it: the check on the target tells. Read in 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Version = tuple[int, ...]
CHECK = "let `samhq engine` check each engine on this GPU (it does by default); never build with --no-verify"
_ANY = (0.0, 99.0)


@dataclass(frozen=True, kw_only=True)
class WrongResult:
    """One report.

    Attributes:
        issue: of NVIDIA/TensorRT, or with its repository.
        since, below: the versions it was seen in; `below` is () where it may be in every later one.
        capabilities: smallest and largest compute capability.
        what: was computed wrongly.
        do: besides checking.
    """

    issue: str
    since: Version
    below: Version
    capabilities: tuple[float, float] = _ANY
    what: str
    do: str = CHECK

    def applies(self, version: Version, capability: float) -> bool:
        low, high = self.capabilities
        return self.since <= version and (not self.below or version < self.below) and low <= capability <= high


WRONG_RESULTS = (
    WrongResult(
        issue="4723", since=(10, 3), below=(10, 4), what="a ViT for segmentation in float16 (one class everywhere)"
    ),
    WrongResult(
        issue="4742",
        since=(10, 4),
        below=(10, 5),
        what="a ViT in float32 (uncorrelated) and float16 (NaN), on an RTX A6000",
    ),
    WrongResult(issue="4328 and 4333", since=(10, 7), below=(10, 8), what="fused attention"),
    WrongResult(
        issue="TensorRT-Edge-LLM 151",
        since=(10, 13),
        below=(10, 14),
        capabilities=(11.0, 11.0),
        what="products that share an input, at batch 1, on Jetson Thor (10.13.3.9, JetPack 7.1)",
        do="update to JetPack 7.2 or newer; until then never build with --no-verify",
    ),
    WrongResult(
        issue="4837",
        since=(10,),
        below=(),
        capabilities=(12.0, 99.0),
        what="fused attention in float16 and bfloat16 on consumer Blackwell (seen up to 10.16.1)",
    ),
    WrongResult(
        issue="4822",
        since=(10, 14),
        below=(),
        capabilities=(12.0, 99.0),
        what="an encoder with relative positions in every precision on an RTX 5090 (10.14 and 11.1)",
    ),
)


def wrong_results(version: Version, capability: float) -> Iterator[WrongResult]:
    """The reports that name this version and GPU."""
    return (row for row in WRONG_RESULTS if version and row.applies(version, capability))
