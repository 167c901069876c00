"""One line in the log for every request of both protocols, and the id that it and its answer carry."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from .traces import Trace, Tracer

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
_ID = re.compile(r"[!-~]{1,128}")  # what may stand in a header, and in a line
_MOST = 200  # characters of a path or method that clients choose
METRICS = "/metrics"
_PROBES = re.compile(
    r"/v2/health/\w+|/v2/models/[^/]+(/versions/[^/]+)?/ready|/grpc\.health\.v1\.Health/\w+"
    r"|/inference\.GRPCInferenceService/(ServerLive|ServerReady|ModelReady)"
)


@dataclass
class Entry:
    """What is said of one request, filled in while it is answered.

    `method` is empty for gRPC, where `path` is `/service/method`; `status` is an HTTP code or the name of gRPC's.
    """

    protocol: str
    method: str
    path: str
    peer: str
    id: str
    own_id: bool  # made here, as the client's headers had none
    status: int | str = ""
    received: int = 0
    sent: int = 0
    start: float = field(default_factory=time.perf_counter)
    trace: Trace | None = None

    def write(self) -> None:
        """Into the log; of probes and scrapes that went well, at level `debug`."""
        quiet = self.status in (200, "OK") and _is_routine(self.path)
        level = logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            what = f"{self.method} {self.path}".strip()
            log.log(level, "%s %s", what, self.status, extra={"fields": self._fields()})
        if self.trace is not None:
            self.trace.end(self.id, self.status)

    def _fields(self) -> dict[str, Any]:
        where = {"method": self.method, "path": self.path} if self.method else {"rpc": self.path}
        return {
            "protocol": self.protocol,
            **where,
            "status": self.status,
            "latency_ms": round((time.perf_counter() - self.start) * 1000, 1),
            "peer": self.peer,
            "received_bytes": self.received,
            "sent_bytes": self.sent,
            **({"trace_id": self.trace.trace_id} if self.trace else {}),
        }


def is_probe(path: str) -> bool:
    """Whether an HTTP path, or `/service/method` of gRPC, asks for health and nothing else."""
    return _PROBES.fullmatch(path) is not None


def _is_routine(path: str) -> bool:
    return is_probe(path) or path == METRICS


_entry: ContextVar[Entry | None] = ContextVar("samhq_request", default=None)


def begin(
    protocol: str, method: str, path: str, peer: str, headers: Mapping[str, str], tracer: Tracer | None = None
) -> Entry:
    """The entry of a request, from now on that of this task and what it calls.

    `headers` are the client's, names in small letters; those for the request's id and its trace are looked at. Probes
    and scrapes are not traced.
    """
    given_id = headers.get(REQUEST_ID)
    own = given_id is None or not _ID.fullmatch(given_id)
    request_id = uuid4().hex if own else str(given_id)
    entry = Entry(protocol, method[:_MOST], path[:_MOST], peer, request_id, own)
    if tracer is not None and not _is_routine(path):
        entry.trace = tracer.begin(entry.method, entry.path, headers)
    _entry.set(entry)
    return entry


def current_id() -> str:
    """The id of the request that this task or thread works for; empty outside of requests."""
    entry = _entry.get()
    return entry.id if entry else ""


def current_trace() -> Trace | None:
    """Of the request that this task works for, if it is traced."""
    entry = _entry.get()
    return entry.trace if entry else None


def count_bytes(*, received: int = 0, sent: int = 0) -> None:
    """Add to what the current request took and gave."""
    entry = _entry.get()
    if entry is not None:
        entry.received += received
        entry.sent += sent


def adopt_id(protocol_id: str) -> None:
    """Take the `id` of the protocol's message, where the client gave no other."""
    entry = _entry.get()
    if entry is not None and entry.own_id and _ID.fullmatch(protocol_id):
        entry.id = protocol_id
