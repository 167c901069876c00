"""Progress of a build, and the way to stop it: TensorRT asks after every step whether to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from ..callbacks import Show

Result = TypeVar("Result")

_JOIN_SECONDS = 0.1


class Phases:
    """The tree of phases a builder reports, as one fraction. Phases nest: a child is one step of its parent."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[str | None, int, int]] = {}  # phase -> parent, steps, done
        self._lock = threading.Lock()
        self._fraction = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._steps[phase] = (parent, max(steps, 1), 0)

    def step(self, phase: str, index: int) -> None:
        with self._lock:
            if phase in self._steps:
                parent, steps, done = self._steps[phase]
                self._steps[phase] = (parent, steps, min(steps, max(done, index + 1)))
                roots = [name for name, (above, *_) in self._steps.items() if above not in self._steps]
                self._fraction = max(self._fraction, self._done(roots[0]))

    def finish(self, phase: str) -> None:
        with self._lock:
            self._steps.pop(phase, None)

    def state(self) -> tuple[float, str]:
        """Fraction in [0, 1], never falling, and the name of the youngest phase."""
        with self._lock:
            return self._fraction, next(reversed(self._steps), "")

    def _done(self, phase: str) -> float:
        _, steps, done = self._steps[phase]
        inner = max((self._done(child) for child, (parent, *_) in self._steps.items() if parent == phase), default=0.0)
        return min(1.0, (done + inner) / steps)


def make_monitor(trt: Any, show: Show, stop: threading.Event) -> Any:
    """An `IProgressMonitor` of this TensorRT module that reports to `show` and ends the build once `stop` is set."""
    phases = Phases()

    def display() -> None:
        with suppress(Exception):  # a bar that cannot be drawn must not end a build
            show(*phases.state())

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called from the builder's threads. Nothing may be raised here: it would pass through C++."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)
            display()

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            display()
            return not stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()


def run_interruptible(work: Callable[[], Result], stop: threading.Event) -> Result:
    """Run `work` in a thread of its own; Ctrl-C sets `stop`, `work` ends by itself, then KeyboardInterrupt is raised.

    Python delivers Ctrl-C to the main thread between two bytecodes, which never comes while that thread is in a build.
    """
    outcome: list[tuple[Result | None, BaseException | None]] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as e:
            outcome.append((None, e))

    thread = threading.Thread(target=run, name="tensorrt-build")
    with _ctrl_c_sets(stop):
        try:
            thread.start()
            _join(thread)
        except BaseException:  # such as Ctrl-C where its handler is not ours: nobody would wait for the build any more
            stop.set()
            _join(thread)
            raise
    if stop.is_set():
        raise KeyboardInterrupt
    result, error = outcome[0]
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


def _join(thread: threading.Thread) -> None:
    """Wait in small steps, so that the waiting can be interrupted; also for a thread that has hardly started."""
    while thread in threading.enumerate():
        if thread.is_alive():
            thread.join(_JOIN_SECONDS)


@contextmanager
def _ctrl_c_sets(stop: threading.Event) -> Iterator[None]:
    """Instead of raising KeyboardInterrupt; where signals are not ours to handle, nothing changes."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda number, frame: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
