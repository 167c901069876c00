"""What a user can ask of the builder. There is no precision here: the graph has one."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ConfigError

REFITTABLE = ("all", "hq_token")
_LEVELS = range(6)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Builder options; None, False and () leave TensorRT its own default.

    Attributes:
        workspace: most scratch memory a layer may use on the GPU, in MiB.
        low_memory: build in one thread, with no auxiliary streams, and write the plan while it is made.
        optimization_level: 0 builds fastest, 5 searches longest.
        version_compatible: the engine also loads in other versions of the same major TensorRT.
        hardware_compatible: the engine runs on every GPU since Ampere, a little slower.
        refittable: `all` weights, or only `hq_token`, can be replaced in the built engine.
        tf32: float32 convolutions and products may round their inputs to 10 bits; faster, no longer float32.
        compute_capabilities: the GPUs to build for, as `8.6`; only ahead of time.
    """

    workspace: int | None = None
    low_memory: bool = False
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    refittable: str | None = None
    tf32: bool = False
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workspace is not None and self.workspace < 1:
            raise ConfigError(f"--workspace: got {self.workspace}, expected MiB, at least 1")
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise ConfigError(f"--optimization-level: got {self.optimization_level}, expected 0 to {_LEVELS[-1]}")
        if self.refittable is not None and self.refittable not in REFITTABLE:
            raise ConfigError(f"--refittable: got {self.refittable!r}, expected {' or '.join(REFITTABLE)}")
        wrong = [text for text in self.compute_capabilities if not re.fullmatch(r"\d{1,2}\.\d", text)]
        if wrong:
            raise ConfigError(f"--compute-capability: got {wrong[0]!r}, expected numbers such as 8.6,8.9")

    def to_json(self) -> dict[str, Any]:
        """Only what was asked for."""
        asked = {name: value for name, value in asdict(self).items() if value not in (None, False, ())}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asked.items()}
