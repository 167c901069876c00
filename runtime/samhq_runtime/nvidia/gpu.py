"""The NVIDIA GPU of this process, asked from the driver itself: a Jetson with TensorRT has no other CUDA package."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

_DRIVER_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_NAME_BYTES = 256
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """Name as the driver gives it, and compute capability as `8.6`."""

    name: str
    compute_capability: str


def current_gpu(index: int = 0) -> Gpu | None:
    """GPU `index` of those this process may use (`CUDA_VISIBLE_DEVICES` counts); None without a driver or that GPU."""
    driver = _driver()
    device = ctypes.c_int()
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGet(ctypes.byref(device), index) != 0:
        return None
    name = ctypes.create_string_buffer(_NAME_BYTES)
    if driver.cuDeviceGetName(name, _NAME_BYTES, device) != 0:
        return None
    numbers = []
    for attribute in _COMPUTE_CAPABILITY:
        number = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device) != 0:
            return None
        numbers.append(str(number.value))
    return Gpu(name.value.decode(errors="replace"), ".".join(numbers))


def driver_cuda_version() -> str | None:
    """The newest CUDA the installed driver runs, as `13.0`; None without a driver."""
    driver = _driver()
    number = ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def driver_version() -> str | None:
    """The driver's own version, as `580.65.06`; None where the kernel does not state it (Windows, Jetson)."""
    try:
        text = _KERNEL_MODULE.read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found.group() if found else None


def _driver() -> ctypes.CDLL | None:
    for library in _DRIVER_LIBRARIES:
        try:
            return ctypes.CDLL(library)
        except OSError:
            continue
    return None
