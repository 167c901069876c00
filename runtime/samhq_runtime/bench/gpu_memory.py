"""The most GPU memory in use while something runs, sampled from NVML."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .nvml import Nvml, open_nvml

_INTERVAL = 0.02  # seconds


@contextmanager
def watch_gpu_memory() -> Iterator[Callable[[], int | None]]:
    """A function that returns the peak rise, in bytes, of the first GPU's memory in use; None without NVML.

    In use by all processes: nothing else should use that GPU meanwhile.
    """
    with open_nvml() as nvml:
        gpus = nvml.gpus() if nvml else []
        if nvml is None or not gpus:
            yield lambda: None
            return
        watch = _Watch(nvml, gpus[0])
        watch.thread.start()
        try:
            yield lambda: watch.peak
        finally:
            watch.stop.set()
            watch.thread.join()


class _Watch:
    def __init__(self, nvml: Nvml, gpu: ctypes.c_void_p) -> None:
        self._nvml, self._gpu = nvml, gpu
        self._base = nvml.memory_used(gpu)
        self.peak: int | None = None if self._base is None else 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while self.peak is not None and not self.stop.wait(_INTERVAL):
            self.peak = max(self.peak, (self._nvml.memory_used(self._gpu) or 0) - (self._base or 0))
