"""Estimates from data sheets: what limits a kernel, and when there is no estimate."""

from __future__ import annotations

import pytest

from samhq_runtime.errors import ConfigError
from samhq_runtime.nvidia.plan import MOVE, PRODUCT, Kernel, PlanTensor, Program
from samhq_runtime.nvidia.roofline import PEAKS, Estimate, estimate, peak_of

H100 = PEAKS["h100"]


def kernel(flop: int = 0, megabytes: int = 0, dtype: str = "float16", dims: tuple[int | str, ...] = ()) -> Kernel:
    tensor = PlanTensor(dims or (megabytes, 1_000_000), "int8", 1)
    kind = PRODUCT if flop else MOVE
    return Kernel(kind=kind, name="k", layers=(), reads={}, writes={"t": tensor}, dtype=dtype, flop=flop)


@pytest.mark.parametrize(
    ("one", "part", "seconds"),
    [
        (kernel(flop=9_894_000_000_000, megabytes=1), "arithmetic", 1e-2),
        (kernel(flop=1000, megabytes=3350), "memory", 1e-3),
        (kernel(megabytes=1), "launches", 2e-6),
    ],
)
def test_limit(one: Kernel, part: str, seconds: float) -> None:
    found = estimate(Program(("9.0",), (one, one)), H100)
    assert isinstance(found, Estimate)
    assert getattr(found, part) == pytest.approx(2 * seconds) == found.seconds


@pytest.mark.parametrize(
    ("one", "gpu", "reason"),
    [(kernel(dims=("n", 4)), "h100", "sizes are open"), (kernel(flop=1, dtype="float8"), "a100", "no float8")],
)
def test_no_estimate(one: Kernel, gpu: str, reason: str) -> None:
    assert estimate(Program(("8.0",), (one,)), peak_of(gpu)) == reason


def test_unknown_gpu() -> None:
    assert peak_of("H100") is H100
    with pytest.raises(ConfigError, match="--gpu: got 'gtx960', its rates are not known; choose from orin"):
        peak_of("gtx960")
