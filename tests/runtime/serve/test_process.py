"""`samhq serve` as a process: restarts, addresses, and what it says when it cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import main
from tests.support.serve_process import BOXES, COMMAND, FREE_PORTS, IMAGE, in_flight, started
from tests.support.serving import grpc_call, grpc_request


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
