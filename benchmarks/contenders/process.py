"""The parent's side of a contender, and fair turns between two of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .scene import Scene

_ROOT = Path(__file__).parents[2]
_PAUSE = 0.3  # seconds; idle threads of the one before spin for a while, on cores that the next one needs
_PATHS = [str(_ROOT), str(_ROOT / "runtime"), str(_ROOT / "exporter")]


class ContenderFailed(Exception):
    """A contender that cannot be measured here; the message is the end of what it said."""


@dataclass(frozen=True)
class Entry:
    """A contender: the module of this package that knows it, and the interpreter it is installed in."""

    name: str
    module: str
    python: str = sys.executable


@dataclass
class Contender:
    """A running child; `seconds` are its timings in the order they were taken."""

    entry: Entry
    job: str
    scene: Scene
    seconds: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Contender:
        self._log = (self.scene.folder / f"{self.entry.name}.log").open("w+")
        command = [self.entry.module, self.entry.name, self.job, str(self.scene.folder)]
        self._child = subprocess.Popen(
            [self.entry.python, "-m", "benchmarks.contenders.child", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=child_environment(),
        )
        try:
            self.facts = self._read()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(self, times: int = 1, *, warm_up: bool = False) -> None:
        answer = self._ask({"run": times})
        if warm_up:
            self.facts["first_seconds"] = answer["seconds"][0]
        else:
            self.seconds += answer["seconds"]
        self.facts.update({name: answer[name] for name in ("imported_bytes", "peak_bytes")})

    def save(self, path: Path) -> Path:
        """Write the result of the last run as .npy."""
        self._ask({"save": str(path)})
        return path

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # the child is gone; reading tells why
            print(json.dumps(command), file=self._child.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if line:
            return json.loads(line)
        status = self._child.wait()
        self._log.seek(0)
        said = self._log.read().strip().splitlines() or [""]
        raise ContenderFailed(f"{self.entry.name}, {self.job}: ended with status {status}: {said[-1]}")

    def _stop(self) -> None:
        self._child.kill()
        self._child.communicate()
        self._log.close()


def duel(contenders: Sequence[Contender], *, rounds: int, calls: int, warm_ups: int) -> None:
    """Warm up, then A, B, A, B...: what slows this machine for a while slows both."""
    for contender in contenders:
        contender.run(warm_ups, warm_up=True)
    for _ in range(rounds):
        for contender in contenders:
            time.sleep(_PAUSE)
            contender.run(calls)


def child_environment() -> dict[str, str]:
    """This environment, with the project's folders importable."""
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(_PATHS + ([inherited] if inherited else []))}
