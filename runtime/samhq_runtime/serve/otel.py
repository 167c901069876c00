"""Traces through OpenTelemetry. Where spans go, and which, is said by its own variables, `OTEL_*`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..installing import install_command, unavailable

try:
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
    from opentelemetry.trace import Tracer as OtelTracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except Exception as e:  # a broken package raises whatever its loader does
    raise unavailable("opentelemetry-sdk", e, install_command("otel"), use="requests are traced with it") from e

_SERVICE = "samhq"
_UNKNOWN_PATH = (404, "UNIMPLEMENTED")  # what clients make up is no name of a span
_FAILED = ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN")


class OpenTelemetry:
    """A `Tracer`; spans go to `exporter`, by default OTLP over HTTP."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        name = OTELResourceDetector().detect().attributes.get(SERVICE_NAME, _SERVICE)
        resource = Resource.create({SERVICE_NAME: name})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)  # `close` does it, within its bound
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _otlp()))
        self._tracer = self._provider.get_tracer("samhq_runtime", __version__)

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> RequestSpan:
        parent = TraceContextTextMapPropagator().extract(headers)
        protocol = {"http.request.method": method, "url.path": path} if method else {"rpc.system": "grpc"}
        name = f"{method} {path}" if method else path.lstrip("/")
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes=protocol)
        return RequestSpan(self._tracer, span, method)

    def close(self) -> None:
        self._provider.shutdown()


class RequestSpan:
    """A `Trace`."""

    def __init__(self, tracer: OtelTracer, span: Span, method: str) -> None:
        self._tracer, self._span, self._method = tracer, span, method
        self._context = set_span_in_context(span)

    @property
    def trace_id(self) -> str:
        return f"{self._span.get_span_context().trace_id:032x}"

    def stage(self, name: str, start_ns: int, error: BaseException | None, attributes: Mapping[str, Any]) -> None:
        span = self._tracer.start_span(name, self._context, start_time=start_ns, attributes=attributes)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        span.end()

    def end(self, request_id: str, status: int | str) -> None:
        code = "http.response.status_code" if self._method else "rpc.response.status_code"
        self._span.set_attributes({"samhq.request_id": request_id, code: status})
        if status in _UNKNOWN_PATH:
            self._span.update_name(self._method or "grpc")
        if status in _FAILED or (isinstance(status, int) and status >= 500):
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def _otlp() -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except Exception as e:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise unavailable(package, e, install_command("otel"), use="traces are sent with it") from e
    return OTLPSpanExporter()
