"""Spans of requests, for whoever traces them: a `Service` has a tracer, and without one nothing is done here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class Trace(Protocol):
    """The span of one request. Both calls may come from any thread."""

    @property
    def trace_id(self) -> str: ...

    def stage(self, name: str, start_ns: int, error: BaseException | None, attributes: Mapping[str, Any]) -> None:
        """A span below, from `start_ns` of `time.time_ns` until now."""
        ...

    def end(self, request_id: str, status: int | str) -> None:
        """The request was answered, with an HTTP status or the name of a gRPC code."""
        ...


class Tracer(Protocol):
    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> Trace:
        """Of a request that begins; `method` is empty for gRPC. Goes on with the trace that `headers` name, if any."""
        ...

    def close(self) -> None:
        """Hand over what is left."""
        ...


@contextmanager
def stage(name: str, traces: Iterable[Trace | None], **attributes: Any) -> Iterator[None]:
    """Around work that is done for some requests at once: a span in each that is traced."""
    traced = [trace for trace in traces if trace is not None]
    if not traced:
        yield
        return
    start_ns, error = time.time_ns(), None
    try:
        yield
    except BaseException as e:
        error = e
        raise
    finally:
        for trace in traced:
            trace.stage(name, start_ns, error, attributes)
