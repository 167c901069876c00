"""The processor: model, instructions, cores; and how much of it this process gets."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .system_files import read_fact

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "avx_vnni", "avx512_vnni", "asimd", "bf16", "sve")
_CPU = Path("sys/devices/system/cpu")
_CGROUP = Path("sys/fs/cgroup")


def describe_cpu(root: Path = Path("/")) -> dict[str, Any]:
    """Model, usable cores, instructions that matter, clocks; what is unknown is left out."""
    fields = _cpuinfo(root)
    flags = cpu_flags(root)
    frequency = root / _CPU / "cpu0/cpufreq"
    found = {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "cores_usable": usable_cores(),
        "features": [flag for flag in _FLAGS if flag in flags],
        "mhz_at_start": float(fields["cpu MHz"]) if "cpu MHz" in fields else _mhz(frequency / "scaling_cur_freq"),
        "mhz_max": _mhz(frequency / "scaling_max_freq"),
        "governor": read_fact(frequency / "scaling_governor"),
        "boost": read_fact(root / _CPU / "cpufreq/boost"),
    }
    return {name: value for name, value in found.items() if value}


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """Its instruction sets, as Linux names them; empty elsewhere."""
    fields = _cpuinfo(root)
    return frozenset(fields.get("flags", fields.get("Features", "")).split())


def usable_cores() -> int | None:
    """Logical cores this process may run on; containers often have fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def physical_cores(root: Path = Path("/")) -> int | None:
    """Cores of which each may be several logical ones; None where the system does not tell."""
    topologies = (root / _CPU).glob("cpu[0-9]*/topology")
    siblings = {read_fact(t / "core_cpus_list") or read_fact(t / "thread_siblings_list") for t in topologies}
    return len(siblings - {""}) or None


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that the container may use (cgroup 2 or 1); None without a limit."""
    quota, _, period = read_fact(root / _CGROUP / "cpu.max").partition(" ")
    if not period:
        quota = read_fact(root / _CGROUP / "cpu/cpu.cfs_quota_us")
        period = read_fact(root / _CGROUP / "cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that the container may use (cgroup 2 or 1); None without a limit."""
    text = read_fact(root / _CGROUP / "memory.max") or read_fact(root / _CGROUP / "memory/memory.limit_in_bytes")
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None  # cgroup 1 says "none" with a huge number


def _cpuinfo(root: Path) -> Mapping[str, str]:
    lines = read_fact(root / "proc/cpuinfo").splitlines()
    pairs = [line.partition(":") for line in reversed(lines)]  # reversed: of the cores, the first counts
    return {name.strip(): value.strip() for name, _, value in pairs}


def _mhz(path: Path) -> float | None:
    text = read_fact(path)  # kHz
    return int(text) / 1000 if text.isdigit() else None
