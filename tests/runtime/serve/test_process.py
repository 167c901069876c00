"""`samhq serve` as a process: signals, restarts, addresses, and what it says when it cannot start."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import main
from tests.support.serving import grpc_call, grpc_request, http_body, send

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[5.0, 6, 40, 50]], np.float32) + np.arange(8, dtype=np.float32)[:, None]
COMMAND = [sys.executable, "-m", "samhq_runtime", "serve"]
GREETING = re.compile(r"samhq \(.*\): http://127\.0\.0\.1:(\d+)/v2, gRPC 127\.0\.0\.1:(\d+)")


@contextmanager
def started(bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The process and its two ports, once it says that it listens."""
    command = [*COMMAND, str(bundle), "--threads", "1", *options]
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


FREE_PORTS = ("--http-port", "0", "--grpc-port", "0")


def many(port: int, box: Any) -> Any:
    """A request that takes a while: many prompts for one image."""
    return grpc_call(port, "ModelInfer", grpc_request({"image": IMAGE, "box": box.repeat(24, 0)}, ["iou_predictions"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_flight_finish(tiny_bundle: Bundle, number: signal.Signals) -> None:
    with started(tiny_bundle.path, *FREE_PORTS) as (process, http_port, port), ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(many, port, box[None]) for box in BOXES]
        body, length = http_body({"image": IMAGE, "box": BOXES.repeat(24, 0)}, ["iou_predictions"])
        headers = {"Inference-Header-Content-Length": str(length)}
        over_http = pool.submit(send, http_port, "POST", "/v2/models/samhq/infer", body, headers)
        in_flight(http_port, 9)
        process.send_signal(number)
        assert not all(answer.done() for answer in [*answers, over_http])  # or there was nothing to wait for
        assert all(len(answer.result().raw_output_contents[0]) == 24 * 4 for answer in answers)
        assert over_http.result()[0] == 200
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_the_grace_period_ends(tiny_bundle: Bundle) -> None:
    """Requests that take longer are cut off: the process ends soon after, though much of its queue is left."""
    image = np.zeros((3000, 3000, 3), np.uint8)
    request = grpc_request({"image": image, "box": BOXES.repeat(3, 0)}, ["iou_predictions"])
    options = (*FREE_PORTS, "--grace-s", "0.2", "--timeout-s", "600")
    with started(tiny_bundle.path, *options) as (process, http_port, port), ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(grpc_call, port, "ModelInfer", request, timeout=600) for _ in range(12)]
        in_flight(http_port, 12)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
        errors = [answer.exception() for answer in answers]
    cut_off = [error for error in errors if error is not None]
    assert len(cut_off) > 6
    assert all(isinstance(error, grpc.RpcError) for error in cut_off)


def in_flight(http_port: int, count: int) -> None:
    """Wait until that many requests have arrived, answered or not."""
    pattern = re.compile(r"^samhq_requests(?:_in_flight|_total\{.*\}) (.*)$", re.MULTILINE)
    for _ in range(200):
        if sum(map(float, pattern.findall(send(http_port, "GET", "/metrics")[2].decode()))) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{count} requests never arrived")


def test_killed_under_load_and_started_again(tiny_bundle: Bundle) -> None:
    """Clients that try again get every answer, and each the right one."""
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        expected = [predictor.predict(box=box)[1] for box in BOXES]
    with started(tiny_bundle.path, *FREE_PORTS) as (first, http_port, port), ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask_until_answered, port, BOXES[i % 8]) for i in range(64)]
        in_flight(http_port, 16)
        first.kill()
        first.wait()
        unfinished = [answer for answer in answers if not answer.done()]
        assert unfinished
        with started(tiny_bundle.path, "--http-port", str(http_port), "--grpc-port", str(port)):
            for i, answer in enumerate(answers):
                np.testing.assert_allclose(answer.result(), expected[i % 8], atol=1e-4)


def ask_until_answered(port: int, box: Any) -> Any:
    request = grpc_request({"image": IMAGE, "box": box}, ["iou_predictions"])
    for _ in range(600):
        with suppress(grpc.RpcError):
            raw = grpc_call(port, "ModelInfer", request).raw_output_contents[0]
            return np.frombuffer(raw, np.float32)
        time.sleep(0.05)
    raise AssertionError("never answered")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--workers", "0"], "--workers: got 0, expected more than 0"),
        (["--white-point", "65536"], "--white-point: got 65536, expected 1 to 65535"),
        (["--timeout-s", "nan"], "--timeout-s: got nan"),
        (["--model-name", "a/b"], "--model-name: got 'a/b'"),
        (["--host", "203.0.113.7"], "203.0.113.7:8000: cannot listen there"),
        (["--http-port", "99999"], "cannot listen there for HTTP"),
        (["--providers", "cuda,abacus"], "unknown provider abacus"),
    ],
)
def test_a_server_that_cannot_start_says_why(tiny_bundle: Bundle, options: Sequence[str], complaint: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run([*COMMAND, str(tiny_bundle.path), *options], env=env, capture_output=True, text=True)
    assert (child.returncode, child.stdout) == (1, "")
    assert complaint in child.stderr
    assert child.stderr.count("\n") == 1


def test_an_address_that_is_taken(tiny_bundle: Bundle) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with started(tiny_bundle.path, *FREE_PORTS) as (_, http_port, port):
        for taken in (
            ["--http-port", str(http_port), "--grpc-port", "0"],
            ["--http-port", "0", "--grpc-port", str(port)],
        ):
            child = subprocess.run([*COMMAND, str(tiny_bundle.path), *taken], env=env, capture_output=True, text=True)
            assert child.returncode == 1
            assert "cannot listen there" in child.stderr


def test_windows_is_told_where_it_runs(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert main(["serve", str(tiny_bundle.path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: samhq serve: runs on Linux and macOS, not on Windows; start it in WSL 2 or a Linux container"
    ]
