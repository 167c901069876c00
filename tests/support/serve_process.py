"""`samhq serve` as a process: how it is started, loaded and listened to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.serving import send

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[5.0, 6, 40, 50]], np.float32) + np.arange(8, dtype=np.float32)[:, None]
COMMAND = [sys.executable, "-m", "samhq_runtime", "serve"]
GREETING = re.compile(r"samhq \(.*\): http://127\.0\.0\.1:(\d+)/v2, gRPC 127\.0\.0\.1:(\d+)")
FREE_PORTS = ("--http-port", "0", "--grpc-port", "0")


@contextmanager
def started(
    bundle: Path, *options: str, command: Sequence[str] = COMMAND
) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The process and its two ports, once it says that it listens."""
    command = [*command, str(bundle), "--threads", "1", *options]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        greeting = GREETING.match(process.stdout.readline())
        assert greeting, process.communicate()[1]
        yield process, int(greeting[1]), int(greeting[2])
    finally:
        process.kill()
        process.communicate()


def log_of(process: subprocess.Popen[str]) -> list[Any]:
    """Every line of a log in JSON."""
    assert process.stderr is not None
    return [json.loads(line) for line in process.stderr.read().splitlines()]


def in_flight(http_port: int, count: float) -> None:
    """Wait until that many requests have arrived, answered or not."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if served(http_port) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{count} requests never arrived")


def served(http_port: int) -> float:
    """Requests that are in flight or answered."""
    pattern = re.compile(r"^samhq_requests(?:_in_flight|_total\{.*\}) (.*)$", re.MULTILINE)
    return sum(map(float, pattern.findall(send(http_port, "GET", "/metrics")[2].decode())))
