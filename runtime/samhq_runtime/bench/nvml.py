"""NVIDIA GPUs through the driver's own library (NVML), with ctypes: nothing to install."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("nvml.dll",) if sys.platform == "win32" else ("libnvidia-ml.so.1",)
_GRAPHICS_CLOCK, _MEMORY_CLOCK = 0, 2
_TEXT_BYTES = 96


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Nvml:
    """An initialised NVML; its methods return None for what this GPU or driver does not report."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def gpus(self) -> list[ctypes.c_void_p]:
        """Handles of all GPUs, in the driver's order."""
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
        handles = [ctypes.c_void_p() for _ in range(count.value)]
        return [h for i, h in enumerate(handles) if not self._library.nvmlDeviceGetHandleByIndex_v2(i, ctypes.byref(h))]

    def driver(self) -> str | None:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        failed = self._library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(_TEXT_BYTES))
        return None if failed else text.value.decode()

    def name(self, gpu: ctypes.c_void_p) -> str | None:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        failed = self._library.nvmlDeviceGetName(gpu, text, ctypes.c_uint(_TEXT_BYTES))
        return None if failed else text.value.decode()

    def memory_used(self, gpu: ctypes.c_void_p) -> int | None:
        """Bytes in use on the GPU, by all processes."""
        memory = _Memory()
        return None if self._library.nvmlDeviceGetMemoryInfo(gpu, ctypes.byref(memory)) else int(memory.used)

    def memory_total(self, gpu: ctypes.c_void_p) -> int | None:
        memory = _Memory()
        return None if self._library.nvmlDeviceGetMemoryInfo(gpu, ctypes.byref(memory)) else int(memory.total)

    def joules(self, gpu: ctypes.c_void_p) -> float | None:
        """Energy drawn since the driver was loaded (Volta and newer)."""
        millijoules = ctypes.c_ulonglong()
        failed = self._library.nvmlDeviceGetTotalEnergyConsumption(gpu, ctypes.byref(millijoules))
        return None if failed else millijoules.value / 1000

    def power_limit_watts(self, gpu: ctypes.c_void_p) -> float | None:
        milliwatts = ctypes.c_uint()
        failed = self._library.nvmlDeviceGetEnforcedPowerLimit(gpu, ctypes.byref(milliwatts))
        return None if failed else milliwatts.value / 1000

    def clock_mhz(self, gpu: ctypes.c_void_p, kind: int = _GRAPHICS_CLOCK) -> int | None:
        mhz = ctypes.c_uint()
        return None if self._library.nvmlDeviceGetClockInfo(gpu, kind, ctypes.byref(mhz)) else mhz.value


@contextmanager
def open_nvml() -> Iterator[Nvml | None]:
    """NVML of this machine's driver, or None where there is no NVIDIA driver."""
    library = _load()
    if library is None or library.nvmlInit_v2():
        yield None
        return
    try:
        yield Nvml(library)
    finally:
        library.nvmlShutdown()


def describe_gpus() -> list[dict[str, Any]]:
    """Name, driver, memory, power limit and clocks of each NVIDIA GPU."""
    with open_nvml() as nvml:
        if nvml is None:
            return []
        return [
            {
                "name": nvml.name(gpu),
                "driver": nvml.driver(),
                "memory_mb": _megabytes(nvml.memory_total(gpu)),
                "power_limit_watts": nvml.power_limit_watts(gpu),
                "graphics_mhz_at_start": nvml.clock_mhz(gpu),
                "memory_mhz_at_start": nvml.clock_mhz(gpu, _MEMORY_CLOCK),
            }
            for gpu in nvml.gpus()
        ]


def _megabytes(count: int | None) -> float | None:
    return None if count is None else round(count / 1e6)


def _load() -> Any:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
