"""Spans of requests over both protocols, with OpenTelemetry's own exporter for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="the extra [otel]")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from samhq_runtime import Bundle
from samhq_runtime.errors import BackendUnavailable
from samhq_runtime.serve import otel
from samhq_runtime.serve.options import ServeOptions
from samhq_runtime.serve.service import Service
from tests.support.serving import BOX, INFER, Running, grpc_request, http_body, picture, running, send

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
OTLP = otel._otlp  # which `traced` replaces
RPC = "inference.GRPCInferenceService/ModelInfer"


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def traced(tiny_bundle: Bundle, exporter: InMemorySpanExporter) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otel, "_otlp", lambda: exporter)
        with running(tiny_bundle, traces=True) as server:
            yield server


def spans(server: Running, exporter: InMemorySpanExporter, *, requests: int = 1) -> dict[str, ReadableSpan]:
    """What was recorded since the last call, by name; a span ends a little after its client has the answer."""
    tracer, deadline = server.service.tracer, time.monotonic() + 30
    assert isinstance(tracer, otel.OpenTelemetry)
    while True:
        tracer._provider.force_flush()
        finished = exporter.get_finished_spans()
        if sum(span.kind is SpanKind.SERVER for span in finished) >= requests:
            exporter.clear()
            return {span.name: span for span in finished}
        assert time.monotonic() < deadline, finished
        time.sleep(0.01)


def infer(server: Running, image: Any, headers: dict[str, str]) -> int:
    body, length = http_body({"image": image, "box": BOX}, ["iou_predictions"])
    return send(server.http_port, "POST", INFER, body, {"Inference-Header-Content-Length": str(length), **headers})[0]


def test_an_http_request_and_its_stages(
    traced: Running, exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert infer(traced, picture(1), {"X-Request-Id": "mine", **TRACEPARENT}) == 200
    found = spans(traced, exporter)
    assert set(found) == {f"POST {INFER}", "decode", "encode", "predict"}
    request = found.pop(f"POST {INFER}")
    assert request.kind is SpanKind.SERVER
    assert request.parent is not None
    assert (f"{request.context.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "url.path": INFER,
        "samhq.request_id": "mine",
        "http.response.status_code": 200,
    }
    for stage in found.values():
        assert stage.parent is not None
        assert stage.parent.span_id == request.context.span_id
        assert request.start_time <= stage.start_time <= stage.end_time <= request.end_time  # type: ignore[operator]
    assert dict(found["predict"].attributes or {}) == {"prompts": 1, "requests": 1}
    assert [r.fields["trace_id"] for r in caplog.records if "trace_id" in getattr(r, "fields", {})] == [TRACE]


def test_a_grpc_call_and_its_stages(traced: Running, exporter: InMemorySpanExporter) -> None:
    request = grpc_request({"image": picture(2), "box": BOX}, ["iou_predictions"])
    with grpc.insecure_channel(f"127.0.0.1:{traced.grpc_port}") as channel:
        call = channel.unary_unary(f"/{RPC}", request_serializer=lambda message: message.SerializeToString())
        call(request, timeout=30, metadata=[*TRACEPARENT.items()])
    found = spans(traced, exporter)
    assert set(found) == {RPC, "decode", "encode", "predict"}
    assert f"{found[RPC].context.trace_id:032x}" == TRACE
    attributes = {"rpc.system": "grpc", "samhq.request_id": "7", "rpc.response.status_code": "OK"}
    assert dict(found[RPC].attributes or {}) == attributes


def test_an_image_that_is_kept_is_neither_decoded_nor_encoded(traced: Running, exporter: InMemorySpanExporter) -> None:
    for _ in range(2):
        assert infer(traced, picture(3), {"traceparent": "nonsense"}) == 200
        found = spans(traced, exporter)
        assert found[f"POST {INFER}"].parent is None  # a trace of its own
    assert set(found) == {f"POST {INFER}", "predict"}


def test_refusals_and_what_is_not_traced(traced: Running, exporter: InMemorySpanExporter) -> None:
    for path in ("/v2/health/ready", "/metrics", "/v2/models/samhq/ready"):
        assert send(traced.http_port, "GET", path)[0] == 200
    assert send(traced.http_port, "GET", "/made/up/by/a/client")[0] == 404
    assert send(traced.http_port, "POST", INFER, b"{}")[0] == 400
    found = spans(traced, exporter, requests=2)
    assert {name: (span.attributes or {})["http.response.status_code"] for name, span in found.items()} == {
        "GET": 404,
        f"POST {INFER}": 400,
    }
    assert all(span.status.status_code is StatusCode.UNSET for span in found.values())  # the client's fault


def test_failures_of_the_server(traced: Running, exporter: InMemorySpanExporter) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samhq_runtime.predictor.Predictor.encode_fitted", None)
        assert infer(traced, picture(4), {}) == 500
    found = spans(traced, exporter)
    assert {name for name, span in found.items() if span.status.status_code is StatusCode.ERROR} == {
        f"POST {INFER}",
        "encode",
    }


def test_another_service_of_the_process_changes_nothing(
    traced: Running, exporter: InMemorySpanExporter, tiny_bundle: Bundle
) -> None:
    Service(tiny_bundle, ServeOptions()).close()
    assert infer(traced, picture(5), {}) == 200
    assert f"POST {INFER}" in spans(traced, exporter)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "samhq"),
        ({"OTEL_SERVICE_NAME": "shop"}, "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop,region=eu"}, "shop"),
    ],
)
def test_the_services_name(variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    before = dict(os.environ)
    tracer = otel.OpenTelemetry(InMemorySpanExporter())
    assert tracer._provider.resource.attributes["service.name"] == name
    tracer.close()
    assert dict(os.environ) == before  # which children inherit


def test_nothing_is_imported_unless_asked() -> None:
    code = "import samhq_runtime.serve.runner, sys; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def test_packages_that_are_missing(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(BackendUnavailable, match=r"opentelemetry-exporter-otlp-proto-http is missing, .*\[otel\]"):
        OTLP()
    monkeypatch.delitem(sys.modules, "samhq_runtime.serve.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(BackendUnavailable, match=r"opentelemetry-sdk is missing, .*\[otel\]"):
        Service(tiny_bundle, ServeOptions(traces=True))
