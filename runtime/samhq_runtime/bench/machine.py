"""What a result was measured on: processor, clocks, power mode, GPU, driver, library versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from .jetson import describe_jetson
from .nvml import describe_gpus
from .system_files import read_fact

# Distributions that decide speed; `onnxruntime` and `onnxruntime-gpu` are one module from two of them.
LIBRARIES = ("samhq-export", "numpy", "Pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "cuda-python")
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx_vnni", "avx512_vnni", "asimd", "bf16", "sve")
_CPU = Path("sys/devices/system/cpu")


def describe_machine(root: Path = Path("/"), *, libraries: tuple[str, ...] = LIBRARIES) -> dict[str, Any]:
    """Everything that is known of this machine; what is unknown is left out."""
    found = {
        "cpu": describe_cpu(root),
        "memory_gb": _memory_gb(root),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": versions(libraries),
        "gpus": describe_gpus(),
        "jetson": describe_jetson(root),
    }
    return {name: value for name, value in found.items() if value}


def describe_cpu(root: Path) -> dict[str, Any]:
    lines = read_fact(root / "proc/cpuinfo").splitlines()
    pairs = [line.partition(":") for line in reversed(lines)]  # reversed: of the cores, the first counts
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    frequency = root / _CPU / "cpu0/cpufreq"
    found = {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "cores_usable": _usable_cores(),
        "features": [flag for flag in _FLAGS if flag in flags],
        "mhz_at_start": float(fields["cpu MHz"]) if "cpu MHz" in fields else _mhz(frequency / "scaling_cur_freq"),
        "mhz_max": _mhz(frequency / "scaling_max_freq"),
        "governor": read_fact(frequency / "scaling_governor"),
        "boost": read_fact(root / _CPU / "cpufreq/boost"),
    }
    return {name: value for name, value in found.items() if value}


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """Versions of those distributions that are installed."""
    found = {}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _usable_cores() -> int | None:
    """Cores this process may run on; containers often have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_gb(root: Path) -> float | None:
    total = [line.split()[1] for line in read_fact(root / "proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    return round(int(total[0]) / 1e6, 1) if total else None


def _mhz(path: Path) -> float | None:
    text = read_fact(path)  # kHz
    return int(text) / 1000 if text.isdigit() else None
