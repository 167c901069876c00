"""How long a program would take if each kernel ran at its GPU's peak: an estimate from data sheets, no measurement.

A kernel takes what its arithmetic takes at the dense rate of its operands' type, or what its reads and writes take at
the bandwidth of the memory, or a launch, whichever is longest. No kernel reaches these rates, and a large cache spares
some of the reads; what the estimate is good for is comparing two programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError
from .plan import Kernel, Program

_TERA, _GIGA = 1e12, 1e9


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Rates of a GPU, of NVIDIA's data sheets: tensor cores without sparsity, float32 without TensorFloat-32.

    Attributes:
        product: name and form.
        flops: operations a second, by type of the operands, with sums in float32 (int32 for int8).
        bandwidth: bytes a second.
        launch: seconds that even an empty kernel takes.
    """

    product: str
    flops: Mapping[str, float]
    bandwidth: float
    launch: float


def _peak(product: str, single: float, half: float, eight: Mapping[str, float], bandwidth: float, us: float) -> Peak:
    flops = {"float32": single, "float16": half, "bfloat16": half, **eight}
    rates = {dtype: rate * _TERA for dtype, rate in flops.items()}
    return Peak(product=product, flops=rates, bandwidth=bandwidth * _GIGA, launch=us * 1e-6)


PEAKS = {
    "orin": _peak("Jetson AGX Orin 64 GB", 5.3, 42.5, {"int8": 85}, 204.8, 5),
    "a100": _peak("A100 SXM 80 GB", 19.5, 312, {"int8": 624}, 2039, 2),
    "4090": _peak("GeForce RTX 4090", 82.6, 165.2, {"int8": 660.6, "float8": 330.3}, 1008, 2),
    "h100": _peak("H100 SXM", 66.9, 989.4, {"int8": 1978.9, "float8": 1978.9}, 3350, 2),
}


def peak_of(name: str) -> Peak:
    """A row of `PEAKS`; ConfigError for a GPU whose rates are not known."""
    if name.lower() not in PEAKS:
        raise ConfigError(f"--gpu: got {name!r}, its rates are not known; choose from {', '.join(PEAKS)}")
    return PEAKS[name.lower()]


@dataclass(frozen=True)
class Estimate:
    """Seconds: of all kernels, and of those parts that arithmetic, memory and launches decide."""

    arithmetic: float
    memory: float
    launches: float

    @property
    def seconds(self) -> float:
        return self.arithmetic + self.memory + self.launches


def estimate(program: Program, peak: Peak) -> Estimate | str:
    """The estimate, or why there is none: sizes that the profile leaves open, a type that the GPU lacks."""
    if any(kernel.open for kernel in program.kernels):
        return "sizes are open"
    lacking = sorted({k.dtype for k in program.kernels if k.flop and k.dtype not in peak.flops})
    if lacking:
        return f"no {lacking[0]}"
    parts = {"arithmetic": 0.0, "memory": 0.0, "launches": 0.0}
    for kernel in program.kernels:
        seconds, limit = _limit(kernel, peak)
        parts[limit] += seconds
    return Estimate(**parts)


def _limit(kernel: Kernel, peak: Peak) -> tuple[float, str]:
    arithmetic = kernel.flop / peak.flops[kernel.dtype] if kernel.flop else 0.0
    return max((arithmetic, "arithmetic"), (kernel.nbytes / peak.bandwidth, "memory"), (peak.launch, "launches"))
