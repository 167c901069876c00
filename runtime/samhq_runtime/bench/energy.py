"""Energy counters of this machine, in joules: NVIDIA GPUs, x86 packages (RAPL), Jetson power rails.

All count what the whole device draws, idle share and other processes included.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from .jetson import parse_tegrastats, rail_watts, total_watts
from .nvml import Nvml, open_nvml
from .rapl import rapl_counters

Meter = Callable[[], float]  # joules since some moment in the past
_INTERVAL = 0.05  # seconds between two readings of power; the INA3221 averages over some milliseconds itself


@contextmanager
def open_meters(root: Path = Path("/")) -> Iterator[dict[str, Meter]]:
    """The energy counters that can be read here, by name; often none, and RAPL only for root."""
    with ExitStack() as stack:
        meters: dict[str, Meter] = {counter.name: counter.joules for counter in rapl_counters(root)}
        nvml = stack.enter_context(open_nvml())
        for number, gpu in enumerate(nvml.gpus() if nvml else []):
            if nvml is not None and nvml.joules(gpu) is not None:
                meters[f"gpu {number}"] = partial(_gpu_joules, nvml, gpu)
        watts = stack.enter_context(_jetson_watts(root))
        if watts:
            meters["jetson module"] = stack.enter_context(integrated(watts))
        yield meters


def _gpu_joules(nvml: Nvml, gpu: ctypes.c_void_p) -> float:
    return nvml.joules(gpu) or 0.0


@contextmanager
def integrated(watts: Callable[[], float], *, interval: float = _INTERVAL) -> Iterator[Meter]:
    """A counter made of a power reading, by the trapezoidal rule in a thread."""
    total, last, lock, stop = 0.0, (time.perf_counter(), watts()), threading.Lock(), threading.Event()

    def advance() -> float:
        nonlocal total, last
        with lock:
            now = (time.perf_counter(), watts())
            total += (now[0] - last[0]) * (now[1] + last[1]) / 2
            last = now
            return total

    def run() -> None:
        while not stop.wait(interval):
            advance()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield advance
    finally:
        stop.set()
        thread.join()


@contextmanager
def _jetson_watts(root: Path) -> Iterator[Callable[[], float] | None]:
    """What a Jetson module draws now: from its monitors' files, else from `tegrastats` (which may need root)."""
    if rail_watts(root):
        yield lambda: total_watts(rail_watts(root))
        return
    command = shutil.which("tegrastats")
    if not command or root != Path("/"):
        yield None
        return
    child = subprocess.Popen([command, "--interval", "50"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        reader = TegrastatsReader(child.stdout)
        yield reader.watts if reader.rails else None
    finally:
        child.terminate()
        child.wait()


class TegrastatsReader:
    """The latest line of a running `tegrastats`."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.rails = parse_tegrastats(next(lines, ""))
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def watts(self) -> float:
        return total_watts(self.rails)

    def _follow(self) -> None:
        for line in self._lines:
            self.rails = parse_tegrastats(line) or self.rails
