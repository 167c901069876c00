"""Whose fault a failure is, servers that lost a worker, and gRPC calls whose body is late, absent or no message."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.decoding import Decoding
from samhq_runtime.errors import BackendUnavailable, ContractError, DeviceError, ImageError, PromptError
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.off_loop import LITTLE, off_loop
from samhq_runtime.serve.options import ServeOptions
from tests.support.serving import Running, grpc_call, grpc_request, http_body, running, send

IMAGE = np.zeros((60, 80, 3), np.uint8)
BOX = np.array([[5.0, 6, 40, 50]], np.float32)
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Running]:
    with running(tiny_bundle) as started:
        yield started


def refusal(port: int, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        grpc_call(port, "ModelInfer", request)
    return error.value.code(), error.value.details()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PromptError("one"), 400, grpc.StatusCode.INVALID_ARGUMENT),
        (ImageError("one"), 400, grpc.StatusCode.INVALID_ARGUMENT),
        (DeviceError("one"), 500, grpc.StatusCode.INTERNAL),
        (BackendUnavailable("one"), 500, grpc.StatusCode.INTERNAL),
        (ContractError("one"), 500, grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_faults_of_the_server_are_not_the_clients(
    server: Running, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: grpc.StatusCode
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(Predictor, "predict_batch", fail)
    message = "one" if status == 400 else "internal error; the server's log has it"
    assert refusal(server.grpc_port, grpc_request({"image": IMAGE, "box": BOX})) == (code, message)
    body, length = http_body({"image": IMAGE, "box": BOX})
    headers = {"Inference-Header-Content-Length": str(length)}
    got, _, answer = send(server.http_port, "POST", "/v2/models/samhq/infer", body, headers)
    assert (got, answer) == (status, b'{"error": "%s"}' % message.encode())


def test_a_server_that_lost_a_worker_is_not_alive(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tiny_bundle, workers=2) as server:
        worker = server.service._loaded.workers[0]
        monkeypatch.setattr(worker, "is_alive", lambda: False)
        for path in ("live", "ready"):
            assert send(server.http_port, "GET", f"/v2/health/{path}")[0] == 503
        assert not grpc_call(server.grpc_port, "ServerLive", MESSAGES["ServerLiveRequest"]()).live
        assert not grpc_call(server.grpc_port, "ServerReady", MESSAGES["ServerReadyRequest"]()).ready


def test_a_call_takes_its_place_when_its_body_is_there(tiny_bundle: Bundle) -> None:
    """One call that sends nothing keeps nobody from the only place, until it is refused for being late."""
    with (
        running(tiny_bundle, max_concurrency=1, body_timeout_s=1.5) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        silent = threading.Event()
        late = channel.stream_unary(INFER).future(iter(silent.wait, True))
        while not server.service.held.arriving:
            silent.wait(0.01)
        assert grpc_call(server.grpc_port, "ModelInfer", grpc_request({"image": IMAGE, "box": BOX})).outputs
        assert not late.done()
        assert late.exception().details() == "the request did not arrive in time"
        silent.set()
    assert server.service.held.used == 0


@pytest.mark.parametrize(
    ("messages", "complaint"), [([], "got a call without a message"), ([b"\xff\xff"], "not a ModelInferRequest")]
)
def test_calls_that_are_no_request(server: Running, messages: list[bytes], complaint: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError, match=complaint) as error:
            channel.stream_unary(INFER)(iter(messages))
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("max_batch", "calls"), [(3, [3, 3, 1]), (16, [7])])
def test_max_batch_is_what_one_decoder_call_takes(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, max_batch: int, calls: list[int]
) -> None:
    decode, seen = Decoding._call, []

    def spy(self: Decoding, requests: Any, parts: Any, weights: Any) -> Any:
        seen.append(sum(len(prompts) for _, prompts in parts))
        return decode(self, requests, parts, weights)

    monkeypatch.setattr(Decoding, "_call", spy)
    with running(tiny_bundle, max_batch=max_batch) as server:
        grpc_call(server.grpc_port, "ModelInfer", grpc_request({"image": IMAGE, "box": BOX.repeat(7, 0)}))
    assert seen == calls


def test_ipv6(tiny_bundle: Bundle) -> None:
    assert ServeOptions(host="::1").address(80) == "[::1]:80"
    assert ServeOptions(host="localhost").address(80) == "localhost:80"
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with running(tiny_bundle, host="::1") as server, grpc.insecure_channel(f"[::1]:{server.grpc_port}") as channel:
        answer = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=30)
        assert MESSAGES["ServerLiveResponse"].FromString(answer).live


@pytest.mark.parametrize(("size", "same"), [(LITTLE, True), (LITTLE + 1, False)])
def test_much_work_leaves_the_event_loop(size: int, same: bool) -> None:
    async def where() -> bool:
        return await off_loop(size, threading.get_ident) == threading.get_ident()

    assert asyncio.run(where()) is same
