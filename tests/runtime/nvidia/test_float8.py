"""fp8 engines are for GPUs with float8 arithmetic, and for no others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from samhq_runtime.errors import BackendUnavailable, ConfigError
from samhq_runtime.nvidia.flavour import FLAVOURS, TensorRT
from samhq_runtime.nvidia.float8 import for_float8
from samhq_runtime.nvidia.gpu import Gpu
from samhq_runtime.nvidia.options import EngineOptions


def tensorrt(flavour: str, gpu: Gpu | None) -> TensorRT:
    return TensorRT(flavour=FLAVOURS[flavour], trt=SimpleNamespace(), version="1", gpu=gpu)


@pytest.mark.parametrize(("asked", "chosen"), [((), ("8.9", "12.0", "12.1")), (("12.0",), ("12.0",))])
def test_ahead_of_time(asked: tuple[str, ...], chosen: tuple[str, ...]) -> None:
    options = for_float8(tensorrt("rtx", None), EngineOptions(compute_capabilities=asked, tf32=True))
    assert (options.compute_capabilities, options.tf32) == (chosen, True)


def test_asked_for_a_gpu_without_it() -> None:
    with pytest.raises(ConfigError, match=r"--compute-capability 8\.6: has no float8 arithmetic, 8\.9 is the first"):
        for_float8(tensorrt("rtx", None), EngineOptions(compute_capabilities=("8.9", "8.6")))


def test_gpu_of_this_machine() -> None:
    assert for_float8(tensorrt("tensorrt", Gpu("NVIDIA L4", "8.9")), EngineOptions()) == EngineOptions()
    with pytest.raises(BackendUnavailable, match=r"^NVIDIA A100 \(8\.0\) has no float8 arithmetic.*--precision int8"):
        for_float8(tensorrt("tensorrt", Gpu("NVIDIA A100", "8.0")), EngineOptions())
