"""Child processes that answer in JSON: a crash, a hang or a library's own exit ends them, not their parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ChildAnswer:
    """The JSON value of its last line, None with the reason in `death` if it gave none; and what it said besides."""

    value: Any
    death: str = ""
    errors: str = ""


def ask_child(module: str, argument: str, timeout: float) -> ChildAnswer:
    """What `python -m module argument` answers within `timeout` seconds; it finds the packages that we find."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", module, argument]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return ChildAnswer(None, f"no answer in {timeout:.0f} s: it hangs")
    except OSError as e:
        return ChildAnswer(None, f"cannot start a process ({e.strerror})")
    lines = child.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines and child.returncode == 0 else None
    except ValueError:
        answer = None
    death = _death(child.returncode, child.stderr) if answer is None else ""
    return ChildAnswer(answer, death, child.stderr)


def _death(code: int, errors: str) -> str:
    last = (errors.strip().splitlines() or ["it said nothing"])[-1]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}: {last}"
    return f"ended with {code}: {last}"
