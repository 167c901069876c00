"""Resident memory of this process. Linux reports it and its peak, which can be reset; other systems the peak alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_PROC_SELF = Path("/proc/self")
_RESET_PEAK = "5"  # proc(5): the peak resident set becomes the current one


@dataclass(frozen=True)
class HostMemory:
    """Bytes; None where the platform does not report it."""

    resident: int | None
    peak: int | None


def host_memory(proc: Path = _PROC_SELF) -> HostMemory:
    """Resident memory of this process now, and its peak since the start or since `reset_peak`."""
    try:
        lines = (proc / "status").read_text().splitlines()
    except OSError:
        return HostMemory(None, _peak_from_resource())
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return HostMemory(_bytes(fields.get("VmRSS")), _bytes(fields.get("VmHWM")))


def reset_peak(proc: Path = _PROC_SELF) -> bool:
    """Start a new peak from here; False where that cannot be done."""
    try:
        (proc / "clear_refs").write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def _bytes(field: str | None) -> int | None:
    """`"  1234 kB"` -> 1263616."""
    return None if field is None else int(field.split()[0]) * 1024


def _peak_from_resource() -> int | None:
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
