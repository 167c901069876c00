"""Progress of a build, and stopping one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from samhq_runtime.engine.progress import Phases, make_monitor, run_interruptible

FAKE = SimpleNamespace(IProgressMonitor=type("IProgressMonitor", (), {}))


def test_phases_nest() -> None:
    phases = Phases()
    phases.start("build", None, 4)
    assert phases.state() == (0, "build")
    phases.start("time kernels", "build", 10)
    phases.step("time kernels", 4)
    assert phases.state() == (pytest.approx(0.5 / 4), "time kernels")
    phases.finish("time kernels")
    phases.step("build", 0)
    assert phases.state() == (0.25, "build")
    for index in (1, 2, 3):
        phases.step("build", index)
    assert phases.state() == (1, "build")
    phases.finish("build")
    assert phases.state() == (1, "")


def test_progress_never_falls_nor_passes_one() -> None:
    phases = Phases()
    phases.start("a", None, 2)
    phases.step("a", 0)
    phases.finish("a")
    phases.start("b", None, 0)  # a phase without steps, and a second root
    assert phases.state()[0] == 0.5
    phases.step("b", 7)
    phases.step("unknown", 0)
    assert phases.state()[0] == 1


def test_monitor_stops_a_build() -> None:
    stop, seen = threading.Event(), []
    monitor = make_monitor(FAKE, lambda fraction, phase: seen.append((fraction, phase)), stop)
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is True
    stop.set()
    assert monitor.step_complete("build", 1) is False
    monitor.phase_finish("build")
    assert seen == [(0, "build"), (0.5, "build"), (1, "build")]


def test_nothing_is_raised_through_the_builder() -> None:
    def broken(fraction: float, phase: str) -> None:
        raise BrokenPipeError

    monitor = make_monitor(FAKE, broken, threading.Event())
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is True


INTERRUPTED = """
import os, signal, threading
from samhq_runtime.engine.progress import run_interruptible

class Interrupted(Exception):
    pass

def raise_it(number, frame):
    raise Interrupted

def work():
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.wait(10)
    ended.append(True)

signal.signal(signal.SIGINT, {handler})
stop, ended = threading.Event(), []
try:
    run_interruptible(work, stop)
except {error}:
    print("interrupted after the end:", ended)
"""


@pytest.mark.parametrize(
    ("handler", "error"),
    [("signal.default_int_handler", "KeyboardInterrupt"), ("raise_it", "Interrupted")],  # the second is a program's own
)
def test_ctrl_c_waits_for_the_build_to_stop(handler: str, error: str) -> None:
    """In a process of its own: a signal that goes astray ends the one it hits."""
    code = INTERRUPTED.format(handler=handler, error=error)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert child.stdout == "interrupted after the end: [True]\n", child.stderr


def test_results_and_errors_pass_through() -> None:
    assert run_interruptible(lambda: 3, threading.Event()) == 3
    with pytest.raises(ZeroDivisionError):
        run_interruptible(lambda: 1 / 0, threading.Event())
