"""What signals do to a server at work: SIGTERM and Ctrl-C end it in order and in time, SIGHUP exchanges its bundle."""

from __future__ import annotations

import http.client
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.serve.options import LEAVE_S
from tests.support.serve_process import BOXES, FREE_PORTS, IMAGE, in_flight, log_of, served, started
from tests.support.serving import INFER, grpc_call, grpc_request, http_body, send

# `samhq serve` with an encoder that takes a minute and cannot be interrupted, as no call into C++ can.
SLOW = """
import sys, time
from samhq_runtime.cli import main
from samhq_runtime.predictor import Predictor
Predictor.encode_fitted = lambda self, *image: time.sleep(60)
sys.exit(main(["serve", *sys.argv[1:]]))
"""


BODY, LENGTH = http_body({"image": IMAGE, "box": BOXES[:1]}, ["iou_predictions"])
POST = (BODY, {"Inference-Header-Content-Length": str(LENGTH)})
STOPPING = "the server is stopping; ask another one"
SLACK_S = 2.0  # for a machine that has more to do


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


def test_another_bundle_under_load(tiny_bundle: Bundle, plain_bundle: Bundle, tmp_path: Path) -> None:
    """No request fails; once the link leads elsewhere answers are the new bundle's, unless it does not load."""
    (tmp_path / "none").mkdir()
    expected = []
    for bundle in (tiny_bundle, plain_bundle):
        with Predictor(bundle, threads=1) as predictor:
            predictor.set_image(IMAGE)
            expected.append(predictor.predict(box=BOXES[0])[1])
    point_to(tiny_bundle.path, tmp_path)
    stop = threading.Event()
    options = (*FREE_PORTS, "--log-format", "json")
    with started(tmp_path / "bundle", *options) as (process, http_port, port), ThreadPoolExecutor(4) as pool:
        asks = (lambda: post_once(http_port), lambda: call_once(port))
        asking = [pool.submit(ask_on, ask, stop) for ask in asks for _ in range(2)]
        in_flight(http_port, 8)
        for folder, outcome in (
            (tmp_path / "none", "failed"),
            (tiny_bundle.path, "unchanged"),
            (plain_bundle.path, "ok"),
        ):
            point_to(folder, tmp_path)
            process.send_signal(signal.SIGHUP)
            wait_for_reload(http_port, outcome)
        in_flight(http_port, 8 + served(http_port))
        stop.set()
        outcomes = [one.result() for one in asking]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        errors = [line["message"] for line in log_of(process) if line["level"] != "info"]
    for of_one in outcomes:
        assert not [outcome for outcome in of_one if isinstance(outcome, str)]
        is_new = [outcome.shape == expected[1].shape for outcome in of_one]
        assert is_new == sorted(is_new)
        assert (is_new[0], is_new[-1]) == (False, True)
        for outcome, new in zip(of_one, is_new, strict=True):
            np.testing.assert_allclose(outcome.ravel(), expected[new].ravel(), atol=1e-4)
    (error,) = errors
    assert error.startswith("SIGHUP: ")
    assert error.endswith("the old bundle stays in use")


def point_to(folder: Path, where: Path) -> None:
    """Have the link `bundle` lead there, from one moment to the next."""
    (where / "next").symlink_to(folder)
    (where / "next").replace(where / "bundle")


def wait_for_reload(http_port: int, outcome: str) -> None:
    end = time.monotonic() + 60
    while f'samhq_reloads_total{{outcome="{outcome}"}} 1.0' not in send(http_port, "GET", "/metrics")[2].decode():
        assert time.monotonic() < end
        time.sleep(0.05)
