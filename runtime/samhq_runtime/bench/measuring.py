"""Repeats a call and records time, memory and energy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from .cases import RepeatOptions
from .energy import open_meters
from .gpu_memory import watch_gpu_memory
from .memory import HostMemory, host_memory, reset_peak
from .stats import summarise

_LEAST_REPEATS = 3


def measure(load: Callable[[], Callable[[], object]], repeats: RepeatOptions) -> dict[str, Any]:
    """Load, warm up, repeat.

    A session answers with arrays in host memory, so each call ends when its result is there: nothing is left running
    on a device when the clock is read.
    """
    before = host_memory()
    with watch_gpu_memory() as gpu_peak, open_meters() as meters:
        start = time.perf_counter()
        call = load()
        load_seconds = time.perf_counter() - start
        loaded = host_memory()
        peak_is_of_work = reset_peak()
        for _ in range(repeats.warm_ups or 0):
            call()
        joules_before = {name: meter() for name, meter in meters.items()}
        seconds = repeat(call, repeats.repeats, repeats.seconds)
        joules = {name: meter() - joules_before[name] for name, meter in meters.items()}
        worked = host_memory()
        gpu_bytes = gpu_peak()
    return {
        **summarise(seconds),
        "load_seconds": load_seconds,
        "host_bytes": _host(before, loaded, worked, peak_is_of_work),
        "gpu_bytes": gpu_bytes,
        "joules_per_call": {name: value / len(seconds) for name, value in joules.items()},
    }


def repeat(call: Callable[[], object], repeats: int, most_seconds: float = math.inf) -> list[float]:
    """Seconds of each call; after `most_seconds` no more than the first three are made."""
    seconds: list[float] = []
    end = time.perf_counter() + most_seconds
    while len(seconds) < repeats:
        start = time.perf_counter()
        if start > end and len(seconds) >= min(_LEAST_REPEATS, repeats):
            break
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def _host(before: HostMemory, loaded: HostMemory, worked: HostMemory, peak_is_of_work: bool) -> dict[str, int | None]:
    """Bytes: resident before and after loading, the peak while loading, and the peak while working."""
    return {
        "before_load": before.resident,
        "after_load": loaded.resident,
        "peak_load": loaded.peak,
        "peak_work": worked.peak if peak_is_of_work else None,
        "peak": max((m.peak for m in (loaded, worked) if m.peak is not None), default=None),
    }
