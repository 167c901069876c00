"""`samhq serve` as a process: signals, restarts, addresses, and what it says when it cannot start."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import main
from samhq_runtime.serve.options import LEAVE_S
from tests.support.serving import grpc_call, grpc_request, http_body, send

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[5.0, 6, 40, 50]], np.float32) + np.arange(8, dtype=np.float32)[:, None]
COMMAND = [sys.executable, "-m", "samhq_runtime", "serve"]
GREETING = re.compile(r"samhq \(.*\): http://127\.0\.0\.1:(\d+)/v2, gRPC 127\.0\.0\.1:(\d+)")


# `samhq serve` with an encoder that takes a minute and cannot be interrupted, as no call into C++ can.
SLOW = """
import sys, time
from samhq_runtime.cli import main
from samhq_runtime.predictor import Predictor
Predictor.encode_fitted = lambda self, *image: time.sleep(60)
sys.exit(main(["serve", *sys.argv[1:]]))
"""


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


INFER = "/v2/models/samhq/infer"
BODY, LENGTH = http_body({"image": IMAGE, "box": BOXES[:1]}, ["iou_predictions"])
POST = (BODY, {"Inference-Header-Content-Length": str(LENGTH)})
STOPPING = "the server is stopping; ask another one"
SLACK_S = 2.0  # for a machine that has more to do
FREE_PORTS = ("--http-port", "0", "--grpc-port", "0")


def many(port: int, box: Any) -> Any:
    """A request that takes a while: many prompts for one image."""
    return grpc_call(port, "ModelInfer", grpc_request({"image": IMAGE, "box": box.repeat(24, 0)}, ["iou_predictions"]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_flight_finish(tiny_bundle: Bundle, number: signal.Signals) -> None:
    options = (*FREE_PORTS, "--log-format", "json")
    with started(tiny_bundle.path, *options) as (process, http_port, port), ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(many, port, box[None]) for box in BOXES]
        body, length = http_body({"image": IMAGE, "box": BOXES.repeat(24, 0)}, ["iou_predictions"])
        headers = {"Inference-Header-Content-Length": str(length)}
        over_http = pool.submit(send, http_port, "POST", INFER, body, headers)
        in_flight(http_port, 9)
        process.send_signal(number)
        assert not all(answer.done() for answer in [*answers, over_http])  # or there was nothing to wait for
        assert all(len(answer.result().raw_output_contents[0]) == 24 * 4 for answer in answers)
        assert over_http.result()[0] == 200
        assert process.wait(20) == 0
        lines = log_of(process)
        assert all(line["level"] == "info" for line in lines)
        assert [line["message"].split()[0].strip(";") for line in lines if "request_id" not in line] == [
            "serving",
            "stopping",
            "stopped",
        ]
        assert sum(line.get("status") in ("OK", 200) for line in lines) == 9


def log_of(process: subprocess.Popen[str]) -> list[Any]:
    """Every line of a log in JSON."""
    assert process.stderr is not None
    return [json.loads(line) for line in process.stderr.read().splitlines()]


def test_the_grace_period_ends_while_an_image_is_encoded(tiny_bundle: Bundle) -> None:
    """All are refused in the words of their protocol, and the process is gone in time."""
    options = (*FREE_PORTS, "--grace-s", "0.5", "--log-format", "json")
    slow = started(tiny_bundle.path, *options, command=[sys.executable, "-c", SLOW])
    with slow as (process, http_port, port), ThreadPoolExecutor(8) as pool:
        request = grpc_request({"image": IMAGE, "box": BOXES[:1]})
        calls = [pool.submit(grpc_call, port, "ModelInfer", request) for _ in range(4)]
        posts = [pool.submit(send, http_port, "POST", INFER, *POST) for _ in range(3)]
        in_flight(http_port, 7)
        with socket.create_connection(("127.0.0.1", http_port)) as half:
            half.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{{".encode())
            while open_requests(http_port) < 8:
                time.sleep(0.01)
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert time.monotonic() - start < 0.5 + LEAVE_S + SLACK_S
            assert b" 503 " in half.recv(100)
        errors: list[Any] = [call.exception() for call in calls]
        assert {(error.code(), error.details()) for error in errors} == {(grpc.StatusCode.UNAVAILABLE, STOPPING)}
        assert {(status, body) for status, _, body in (post.result() for post in posts)} == {
            (503, b'{"error": "%s"}' % STOPPING.encode())
        }
        lines = log_of(process)
    assert sum(line.get("status") in (503, "UNAVAILABLE") for line in lines) == 8
    assert [line["message"] for line in lines if line["level"] != "info"] == [
        "0.5 s of grace are over: 8 requests in flight were refused (503, UNAVAILABLE)",
        "left while something was still being computed",
    ]
    assert not any("traceback" in line for line in lines)


def open_requests(http_port: int) -> int:
    """How many requests are there, those included whose body still arrives."""
    text = send(http_port, "GET", "/metrics")[2].decode()
    return int(float(re.findall(r"^samhq_open_requests (.*)$", text, re.MULTILINE)[0]))


def test_sigterm_under_load(demo_bundle: Bundle) -> None:
    """Whoever asks meanwhile is answered, and rightly, or refused in the protocol's words, or not connected."""
    with Predictor(demo_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        expected = predictor.predict(box=BOXES[0])[1]
    stop = threading.Event()
    options = (*FREE_PORTS, "--grace-s", "10", "--log-format", "json")
    with started(demo_bundle.path, *options) as (process, http_port, port), ThreadPoolExecutor(6) as pool:
        asking = [
            pool.submit(ask_on, over, stop)
            for over in (lambda: post_once(http_port), lambda: call_once(port))
            for _ in range(3)
        ]
        in_flight(http_port, 20)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - start < 10 + LEAVE_S + SLACK_S
        stop.set()
        outcomes = [outcome for one in asking for outcome in one.result()]
        lines = log_of(process)
    answers = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert len(answers) >= 14
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=1e-4)
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} <= {"503", "UNAVAILABLE", "not connected"}
    assert sum(line.get("status") in ("OK", 200) for line in lines) == len(answers)
    assert {line["level"] for line in lines} == {"info"}


def ask_on(ask: Callable[[], Any], stop: threading.Event) -> list[Any]:
    outcomes: list[Any] = []
    while not stop.is_set():
        outcomes.append(ask())
        if isinstance(outcomes[-1], str):
            stop.wait(0.05)
    return outcomes


def post_once(port: int) -> Any:
    """The predicted IoU, or how there is none."""
    try:
        status, headers, body = send(port, "POST", INFER, *POST)
    except (ConnectionError, http.client.RemoteDisconnected):
        return "not connected"
    length = int(headers.get("Inference-Header-Content-Length", 0))
    return np.frombuffer(body[length:], np.float32) if status == 200 else str(status)


def call_once(port: int) -> Any:
    request = grpc_request({"image": IMAGE, "box": BOXES[0]}, ["iou_predictions"])
    try:
        return np.frombuffer(grpc_call(port, "ModelInfer", request).raw_output_contents[0], np.float32)
    except grpc.RpcError as e:
        return str(e.code().name)


def in_flight(http_port: int, count: int) -> None:
    """Wait until that many requests have arrived, answered or not."""
    pattern = re.compile(r"^samhq_requests(?:_in_flight|_total\{.*\}) (.*)$", re.MULTILINE)
    end = time.monotonic() + 30
    while time.monotonic() < end:
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
