"""What one client sends to take `samhq serve` down, against a process under a limit of address space.

Every row: how it is answered, within what time, and with how much memory; while a well-behaved client beside it, and
health, are answered right within two seconds.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Bundle
from tests.support.hostile import (
    Neighbour,
    Server,
    as_base64_request,
    jpeg_of_scans,
    server_process,
    thin_png,
)
from tests.support.serving import BOX, IMAGE, INFER, grpc_call, grpc_request, http_body, png, send

BESIDE_S = 2.0  # the most that a well-behaved client waits
HELD_MB = 2100  # what --max-held-mb allows for bodies and answers


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Server]:
    options = ("--header-timeout-s", "2", "--body-timeout-s", "6", "--write-timeout-s", "3", "--max-connections", "300")
    with server_process(tiny_bundle.path, *options) as started:
        yield started


Row = Callable[[Server], list[Any]]


def post(server: Server, content: Mapping[str, Any] | bytes, **headers: str) -> int:
    """The status of the answer; its message is short and names no address in memory, its JSON is valid."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, got, answer = send(server.http_port, "POST", INFER, body, {"Content-Type": "application/json", **named})
    if got["content-type"] == "application/json":
        json.loads(answer, parse_constant=lambda text: pytest.fail(f"{text} in JSON"))
    if status != 200:
        assert len(answer) < 1200
        assert b" at 0x" not in answer
    return int(status)


def call(server: Server, request: Any) -> str:
    """The name of gRPC's status code."""
    try:
        grpc_call(server.grpc_port, "ModelInfer", request)
    except grpc.RpcError as e:
        return str(e.code().name)
    return "OK"


def thin_pictures(server: Server) -> list[Any]:
    files = [thin_png(1, 40_000_000), thin_png(1, 1_000_000), thin_png(1_000_000, 1), thin_png(1, 200)]
    pixels = grpc_request({"image": np.zeros((1, 1_000_000, 3), np.uint8), "box": BOX})
    return [*(post(server, as_base64_request(file)) for file in files), call(server, pixels)]


def many_points(server: Server) -> list[Any]:
    codes = []
    for count in (8_000, 30_000):
        prompts = {"point_coords": np.ones((1, count, 2), np.float32), "point_labels": np.ones((1, count), np.float32)}
        codes.append(call(server, grpc_request({"image": IMAGE, **prompts})))
    return codes


def many_names(server: Server) -> list[Any]:
    request = as_base64_request(png(IMAGE), [f"o{i}" for i in range(13_000)])
    wide = grpc_request({"image": IMAGE, "box": BOX}, [f"o{i}" for i in range(40_000)])
    with ThreadPoolExecutor(6) as pool:
        return [post(server, request), *set(pool.map(lambda _: call(server, wide), range(6)))]


COUNTLESS, LARGE, LARGE_TOO = (jpeg_of_scans(*size) for size in ((400, 6000), (50, 7000), (50, 7001)))
DECODE_S = 0.3  # a sixth of what the large ones take on a machine of 2024


def many_scans(server: Server) -> list[Any]:
    """More than any encoder writes; and as many as are allowed, of an image as large as is allowed."""
    with ThreadPoolExecutor(3) as pool:
        slow = [pool.submit(post, server, as_base64_request(image)) for image in (LARGE, LARGE_TOO)]
        return [post(server, as_base64_request(COUNTLESS)), *(one.result() for one in slow)]


def default_outputs_as_json(server: Server) -> list[Any]:
    request = as_base64_request(png(np.zeros((3000, 4000, 3), np.uint8)))
    del request["outputs"]
    request["inputs"][1] = {"name": "box", "datatype": "FP32", "shape": [20, 4], "data": [1, 1, 30, 30] * 20}
    return [post(server, request)]


def idle_connections(server: Server) -> list[Any]:
    """Ten for every place there is; then what is left of them."""
    with ExitStack() as stack:
        for port in [server.http_port] * 800 + [server.grpc_port] * 800:
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: " if port == server.http_port else b"PRI * ")
        time.sleep(4)  # longer than the header timeout
        return [send(server.http_port, "GET", "/v2")[0], call(server, grpc_request({"image": IMAGE, "box": BOX}))]


def slow_bodies(server: Server) -> list[Any]:
    """As many as --max-concurrency, over both protocols, of which a byte comes now and then."""
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n".encode()
    with ExitStack() as stack, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.http_port))) for _ in range(256)]
        for one in slow:
            one.send(head)
        silent = [
            channel.stream_unary("/inference.GRPCInferenceService/ModelInfer").future(iter(_Forever()))
            for _ in range(256)
        ]
        for _ in range(8):
            time.sleep(0.5)
            for one in slow:
                with suppress(OSError):  # of those that had to give way
                    one.send(b"0")
        codes = [call(server, grpc_request({"image": IMAGE, "box": BOX})) for _ in range(20)]
        for late in silent:
            late.cancel()
        return sorted(set(codes))


class _Forever:
    def __iter__(self) -> _Forever:
        return self

    def __next__(self) -> bytes:
        time.sleep(8)
        raise StopIteration


def unread_answers(server: Server) -> list[Any]:
    """Large answers to clients that read nothing: those that found room are cut off in the end."""
    body, length = http_body({"image": np.zeros((2000, 2000, 3), np.uint8), "box": BOX.repeat(20, 0)}, ["masks"])
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {length}\r\n\r\n"
    )
    with ExitStack() as stack:
        for _ in range(8):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", server.http_port)))
            one.sendall(head.encode() + body)
        held = [held_bytes(server)]
        while max(held[-50:]) > 1e6 and len(held) < 350:  # the neighbour's own share comes and goes
            time.sleep(0.1)
            held.append(held_bytes(server))
        return [max(held) > 5e8, held[-1] < 1e6]


def held_bytes(server: Server) -> float:
    return float(send(server.http_port, "GET", "/metrics")[2].decode().split("\nsamhq_held_bytes ")[1].split("\n")[0])


def zeros_as_bytes(server: Server) -> list[Any]:
    item = {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 60_000_000}}
    head = json.dumps({"inputs": [item]}).encode()
    lengths = {"Inference_Header_Content_Length": str(len(head))}
    return [post(server, head + bytes(60_000_000), **lengths), post(server, b"[" + b"0," * 30_000_000 + b"0]")]


def web_pages(server: Server) -> list[Any]:
    fine = as_base64_request(png(IMAGE))
    return [
        post(server, fine, Origin="https://example.org"),
        post(server, fine, Host="example.org"),
        post(server, fine, Sec_Fetch_Site="cross-site"),
        post(server, fine, Content_Type="text/plain"),
        post(server, fine, Content_Type="application/x-www-form-urlencoded"),
    ]


def shapes_and_lengths(server: Server) -> list[Any]:
    def shaped(*shape: int) -> dict[str, Any]:
        request = as_base64_request(png(IMAGE))
        request["inputs"][1]["shape"] = list(shape)
        return request

    wrong = [shaped(*[1] * 65), shaped(0, 10**30), shaped(0, 2**62), shaped(-1, 4), as_base64_request(b"no image")]
    far = as_base64_request(png(IMAGE), ["low_res_logits", "iou_predictions"])
    far["inputs"][1]["data"] = [0, 0, 3e38, 3e38]
    long_name = grpc_request({"x" * 40_000: IMAGE, "box": BOX})
    return [
        *(post(server, request) for request in [*wrong, far]),
        post(server, wrong[0], Inference_Header_Content_Length="1" * 5000),
        call(server, long_name),
    ]


ROWS: list[tuple[Row, list[Any], float, float]] = [
    (thin_pictures, [413, 413, 413, 413, "RESOURCE_EXHAUSTED"], 10, 300),
    (many_points, ["RESOURCE_EXHAUSTED"] * 2, 5, 300),
    (many_names, [400, "INVALID_ARGUMENT"], 10, 300),
    (default_outputs_as_json, [413], 10, 500),
    (idle_connections, [200, "OK"], 20, 300),
    (slow_bodies, ["OK"], 30, 400),
    (unread_answers, [True, True], 40, HELD_MB + 600),
    (zeros_as_bytes, [400, 413], 10, 900),
    (web_pages, [403, 403, 403, 415, 200], 5, 400),
    (shapes_and_lengths, [400, 400, 400, 400, 400, 400, 400, "INVALID_ARGUMENT"], 10, 400),
]


@pytest.mark.parametrize(
    ("row", "answers", "seconds", "peak_mb"), ROWS, ids=lambda value: getattr(value, "__name__", "")
)
def test_the_server_holds(
    server: Server, tiny_bundle: Bundle, row: Row, answers: list[Any], seconds: float, peak_mb: float
) -> None:
    hold(server, tiny_bundle, row, answers, seconds, peak_mb)


def test_decoding_is_given_up(tiny_bundle: Bundle) -> None:
    with server_process(tiny_bundle.path, "--decode-timeout-s", str(DECODE_S)) as server:
        hold(server, tiny_bundle, many_scans, [400, 413, 413], 20, 1500)


def hold(server: Server, bundle: Bundle, row: Row, answers: list[Any], seconds: float, peak_mb: float) -> None:
    """Memory is what the row takes beyond what the server had."""
    server.forget_peak()
    before = server.peak_mb()
    with Neighbour(server, bundle.path) as neighbour:
        start = time.monotonic()
        got = row(server)
        taken = time.monotonic() - start
    more_mb = server.peak_mb() - before
    beside = f"{neighbour.answers} answers beside it, the slowest after {neighbour.slowest_s:.2f} s"
    print(f"{taken:.1f} s, {before:.0f} + {more_mb:.0f} MB; {beside}")
    assert got == answers
    assert not neighbour.complaints
    assert neighbour.slowest_s < BESIDE_S
    assert taken < seconds
    assert more_mb < peak_mb


def test_many_names_do_not_keep_it_from_stopping(tiny_bundle: Bundle) -> None:
    with server_process(tiny_bundle.path) as server, ThreadPoolExecutor(6) as pool:
        wide = grpc_request({"image": IMAGE, "box": BOX}, [f"o{i}" for i in range(40_000)])
        for _ in range(6):
            pool.submit(call, server, wide)
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 0


def test_a_reset_in_the_middle_is_forgotten(server: Server) -> None:
    """Clients that go away while they send, or while they are answered, leave nothing."""
    for cut in (50, 200, 20_000):
        with socket.create_connection(("127.0.0.1", server.http_port)) as one:
            head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40000\r\n\r\n".encode()
            one.sendall((head + bytes(40_000))[:cut])
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.5)
    assert call(server, grpc_request({"image": IMAGE, "box": BOX})) == "OK"
