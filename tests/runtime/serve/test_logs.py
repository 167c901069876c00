"""The log: its two formats, and a line for every request, whose id the answer has too."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from samhq_runtime.serve.access_log import REQUEST_ID, begin
from samhq_runtime.serve.logs import JsonFormatter, TextFormatter
from tests.support.serving import BOX, IMAGE, INFER, Running, grpc_request, http_body, send

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
MADE = r"[0-9a-f]{32}"
SERVICE = "inference.GRPCInferenceService"


def record(message: str, fields: Mapping[str, Any], error: Exception | None = None) -> logging.LogRecord:
    trace = (type(error), error, None) if error else None
    made = logging.LogRecord("samhq_runtime.x", logging.WARNING, __file__, 1, "%s", (message,), trace)
    made.fields = fields
    return made


@pytest.mark.parametrize(
    ("message", "fields", "expected"),
    [
        ("fine", {}, "fine"),
        ("fine 200", {"status": 200, "latency_ms": 1.5}, "fine 200 latency_ms=1.5"),
        ("two\nlines\r\x1b[31m", {"path": "/a\nb\x00"}, r"two\nlines\r\x1b[31m path=/a\nb\x00"),
        ("half a \udcff letter", {}, r"half a \udcff letter"),
    ],
)
def test_a_line_of_text_is_one_line(message: str, fields: Mapping[str, Any], expected: str) -> None:
    line = TextFormatter().format(record(message, fields))
    assert re.fullmatch(rf"{TIME} WARNING samhq_runtime\.x: {re.escape(expected)}", line)


def test_what_an_exception_says_cannot_pass_for_a_line_of_its_own() -> None:
    lines = TextFormatter().format(record("failed", {}, ValueError("one\n2026 INFO forged\x1b"))).split("\n")
    assert lines[1:] == ["  ValueError: one", r"  2026 INFO forged\x1b"]


def test_a_line_of_json() -> None:
    line = JsonFormatter().format(record("two\nlines\x1b", {"status": 503}, ValueError("one\ntwo")))
    assert line.isascii()
    assert line.isprintable()
    content = json.loads(line)
    assert re.fullmatch(TIME, content.pop("time"))
    assert content == {
        "level": "warning",
        "logger": "samhq_runtime.x",
        "message": "two\nlines\x1b",
        "status": 503,
        "traceback": "ValueError: one\ntwo",
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), ("abc-1", "abc-1"), ("", None), ("a b", None), ("a" * 129, None), ("ä", None), ("a\nb", None)],
)
def test_ids_of_clients_are_short_and_printable(given: str | None, kept: str | None) -> None:
    entry = begin("http", "GET", "/" + "x" * 1000, "", {} if given is None else {REQUEST_ID: given})
    assert entry.id == kept or re.fullmatch(MADE, entry.id)
    assert (kept is None) == entry.own_id
    assert len(entry.path) == 200


def line_of(caplog: pytest.LogCaptureFixture, request_id: str) -> Any:
    """The access line of that request, once it is there: the answer leaves before it is written."""
    for _ in range(200):
        for one in caplog.records:
            fields = getattr(one, "fields", {})
            if one.name.endswith("access_log") and fields.get("request_id", "") == request_id:
                return one
        time.sleep(0.01)
    raise AssertionError(f"no line of {request_id}")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """Every line, with the id that a formatter would add."""
    from samhq_runtime.serve import access_log

    original = access_log.Entry._fields
    monkeypatch.setattr(access_log.Entry, "_fields", lambda self: {**original(self), "request_id": self.id})
    caplog.set_level(logging.DEBUG, logger="samhq_runtime")
    return caplog


BODY, LENGTH = http_body({"image": IMAGE, "box": BOX})
AS_BINARY = {"Inference-Header-Content-Length": str(LENGTH)}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "expected_id", "status", "level"),
    [
        ("POST", INFER, BODY, {**AS_BINARY, "X-Request-Id": "mine"}, "mine", 200, "INFO"),
        ("POST", INFER, BODY, AS_BINARY, "7", 200, "INFO"),  # the protocol's own
        ("POST", INFER, b"{", {"X-Request-Id": "a\tb"}, MADE, 400, "INFO"),
        ("GET", "/nothing?token=secret", b"", {"X-Request-Id": "n1"}, "n1", 404, "INFO"),
        ("GET", "/v2/health/ready", b"", {"X-Request-Id": "n2"}, "n2", 200, "DEBUG"),
        ("GET", "/v2", b"", {"X-Request-Id": "n3", "Origin": "https://example.org"}, "n3", 403, "INFO"),
    ],
)
def test_a_line_for_each_http_request(
    server: Running,
    log: pytest.LogCaptureFixture,
    method: str,
    path: str,
    body: bytes,
    headers: dict[str, str],
    expected_id: str,
    status: int,
    level: str,
) -> None:
    got, answered, answer = send(server.http_port, method, path, body, headers)
    assert got == status
    assert re.fullmatch(expected_id, answered["x-request-id"])
    line = line_of(log, answered["x-request-id"])
    assert line.levelname == level
    plain = path.partition("?")[0]
    assert line.getMessage() == f"{method} {plain} {status}"
    fields = line.fields
    assert re.fullmatch(r"127\.0\.0\.1:\d+", fields["peer"])
    assert 0 < fields["latency_ms"] < 60_000
    wanted = ("protocol", "method", "path", "status", "received_bytes", "sent_bytes")
    assert [fields[name] for name in wanted] == ["http", method, plain, status, len(body), len(answer)]


@pytest.mark.parametrize(
    ("rpc", "request_bytes", "metadata", "expected_id", "code", "level"),
    [
        (f"{SERVICE}/ModelInfer", None, [], "7", "OK", "INFO"),
        (f"{SERVICE}/ModelInfer", None, [("x-request-id", "mine")], "mine", "OK", "INFO"),
        (
            f"{SERVICE}/ModelInfer",
            b"\xff",
            [("x-request-id", "g1")],
            "g1",
            "INVALID_ARGUMENT",
            "INFO",
        ),
        (f"{SERVICE}/ServerLive", b"", [], MADE, "OK", "DEBUG"),
        ("grpc.health.v1.Health/Check", b"", [("x-request-id", "g2")], "g2", "OK", "DEBUG"),
        (f"{SERVICE}/Nothing", b"", [("x-request-id", "g3")], "g3", "UNIMPLEMENTED", "INFO"),
    ],
)
def test_a_line_for_each_call(
    server: Running,
    log: pytest.LogCaptureFixture,
    rpc: str,
    request_bytes: bytes | None,
    metadata: list[tuple[str, str]],
    expected_id: str,
    code: str,
    level: str,
) -> None:
    body = grpc_request({"image": IMAGE, "box": BOX}).SerializeToString() if request_bytes is None else request_bytes
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(f"/{rpc}").future(body, metadata=metadata, timeout=30)
        assert call.code().name == code
        request_id = dict(call.trailing_metadata())["x-request-id"]
        size = len(call.result()) if code == "OK" else 0
    assert re.fullmatch(expected_id, request_id)
    line = line_of(log, request_id)
    assert (line.levelname, line.getMessage()) == (level, f"/{rpc} {code}")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", line.fields["peer"])
    wanted = ("protocol", "rpc", "status", "sent_bytes")
    assert [line.fields[name] for name in wanted] == ["grpc", f"/{rpc}", code, size]


def test_a_fault_of_ours_has_its_request(
    server: Running, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(server.service), "metadata", lambda self: 1 / 0)
    status, headers, answer = send(server.http_port, "GET", "/v2/models/samhq", headers={"X-Request-Id": "h1"})
    assert (status, json.loads(answer)["error"]) == (500, "internal error; the server's log has it")
    assert headers["x-request-id"] == "h1"
    assert line_of(log, "h1").fields["status"] == 500
    (failure,) = (one for one in log.records if one.exc_info)
    assert failure.getMessage() == "GET /v2/models/samhq failed"
