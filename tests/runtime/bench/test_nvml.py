"""NVIDIA GPUs as NVML tells of them, with a stand-in for its library."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.bench import energy, gpu_memory, nvml


class FakeNvml:
    """The functions of `libnvidia-ml` that we call; one GPU, or a driver that does not know a function (status 3)."""

    def __init__(self, *, unsupported: frozenset[str] = frozenset()) -> None:
        self.unsupported, self.used, self.is_open = unsupported, 1_000_000_000, False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            return 3 if name in self.unsupported else self._call(name, *arguments)

        return call

    def _call(self, name: str, *arguments: Any) -> int:
        numbers = {
            "nvmlDeviceGetCount_v2": 1,
            "nvmlDeviceGetTotalEnergyConsumption": 123_456,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        }
        if name == "nvmlDeviceGetClockInfo":
            numbers[name] = {0: 1980, 2: 3201}[arguments[1]]
        texts = {"nvmlDeviceGetName": (b"NVIDIA H200", 1), "nvmlSystemGetDriverVersion": (b"570.86.15", 0)}
        if name in ("nvmlInit_v2", "nvmlShutdown"):
            self.is_open = name == "nvmlInit_v2"
        elif name in texts:
            text, place = texts[name]
            arguments[place].value = text
        elif name == "nvmlDeviceGetMemoryInfo":
            memory = arguments[1]._obj
            memory.total, memory.used = 150_754_820_096, self.used
        elif name in numbers:
            arguments[-1]._obj.value = numbers[name]
        return 0


@pytest.fixture
def fake_nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    library = FakeNvml()
    monkeypatch.setattr(nvml, "_load", lambda: library)
    return library


def test_nvml(fake_nvml: FakeNvml) -> None:
    (gpu,) = nvml.describe_gpus()
    assert gpu == {
        "name": "NVIDIA H200",
        "driver": "570.86.15",
        "memory_mb": 150755,
        "power_limit_watts": 700.0,
        "graphics_mhz_at_start": 1980,
        "memory_mhz_at_start": 3201,
    }
    assert not fake_nvml.is_open
    with energy.open_meters(Path("/nowhere")) as meters:
        assert meters["gpu 0"]() == pytest.approx(123.456)


def test_gpu_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    names = frozenset({"nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetClockInfo"})
    monkeypatch.setattr(nvml, "_load", lambda: FakeNvml(unsupported=names))
    (gpu,) = nvml.describe_gpus()
    assert (gpu["memory_mb"], gpu["graphics_mhz_at_start"], gpu["power_limit_watts"]) == (None, None, 700.0)
    with energy.open_meters(Path("/nowhere")) as meters:
        assert meters == {}
    with gpu_memory.watch_gpu_memory() as peak:
        assert peak() is None


def test_driver_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_load", lambda: FakeNvml(unsupported=frozenset({"nvmlInit_v2"})))
    assert nvml.describe_gpus() == []


def test_peak_of_gpu_memory(fake_nvml: FakeNvml) -> None:
    with gpu_memory.watch_gpu_memory() as peak:
        fake_nvml.used += 500_000_000
        deadline = threading.Event()
        for _ in range(500):
            if peak() == 500_000_000 or deadline.wait(0.02):
                break
        fake_nvml.used -= 400_000_000
        assert peak() == 500_000_000
