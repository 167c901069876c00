"""One line of progress on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Protocol, TextIO

_REDRAW_SECONDS = 0.1


class Bar(Protocol):
    """One line of progress."""

    def show(self, fraction: float, phase: str) -> None: ...

    def close(self) -> None: ...


def open_bar(label: str, stream: TextIO | None = None) -> Bar:
    """tqdm's bar on a terminal if tqdm is installed, else a plain line, redrawn only on a terminal."""
    stream = stream or sys.stderr
    if stream.isatty():
        try:
            return _TqdmBar(label, stream)
        except ModuleNotFoundError:
            pass
    return _PlainBar(label, stream)


def late_bar(stack: ExitStack, label: str) -> Callable[[float, str], None]:
    """A bar that appears with the first progress, so that what fails before is one line; closed by `stack`."""

    @cache
    def bar() -> Bar:
        opened = open_bar(label, sys.stderr)
        stack.callback(opened.close)
        return opened

    return lambda fraction, phase: bar().show(fraction, phase)


class _TqdmBar:
    def __init__(self, label: str, stream: TextIO) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=100, desc=label, file=stream, bar_format="{desc}: {n:3.0f}% |{bar}| {elapsed}{postfix}")

    def show(self, fraction: float, phase: str) -> None:
        self._bar.set_postfix_str(phase[:40], refresh=False)
        self._bar.update(100 * fraction - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _PlainBar:
    def __init__(self, label: str, stream: TextIO) -> None:
        self._label, self._stream = label, stream
        self._start = self._drawn = time.monotonic()
        self._redraw = stream.isatty()
        self._write(f"{label} ..." if not self._redraw else f"{label}:   0%")

    def show(self, fraction: float, phase: str) -> None:
        now = time.monotonic()
        if self._redraw and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._write(f"\r{self._label}: {fraction:4.0%} {phase[:40]:40}")

    def close(self) -> None:
        self._write(f" {time.monotonic() - self._start:.1f} s\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody reads stderr any more; the build goes on
            self._redraw = False
