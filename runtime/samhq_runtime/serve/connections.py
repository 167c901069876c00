"""The HTTP connections of one server: how many there are, and how long one may go without asking for anything.

uvicorn gives a connection no time limit before its first request is complete, and no limit to how many there are.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

_MAX_HEAD = 1 << 16  # bytes of a request before the application has it: its line and headers
_HEAD_END = b"\r\n\r\n"
_SWEEP_S = 0.1
_GRACE_S = 0.5  # within which a connection is not closed for others: its request may be on the way


class Connection:
    """One client; `busy` while the application has a request of it, and `since` the time of the last change."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.since = time.monotonic()
        self.busy = False
        self.head = 0
        self._tail = b""

    @property
    def idle(self) -> bool:
        """Whether no request of it has arrived, nor is answered."""
        return not self.busy and self._tail != _HEAD_END

    def set_busy(self, busy: bool) -> None:
        self.busy, self.since, self.head, self._tail = busy, time.monotonic(), 0, b""

    def receive(self, data: bytes) -> None:
        """Count what is no body: all until the empty line that ends a head."""
        if not self.busy and self._tail != _HEAD_END:
            before = self._tail + data
            end = before.find(_HEAD_END)
            self.head += len(data) if end < 0 else 0
            self._tail = before[1 - len(_HEAD_END) :] if end < 0 else _HEAD_END


class Connections:
    """Of one event loop. Those with nothing in progress are closed when they are late, or when others need room.

    There may be more than `limit` for a moment, though never more than `most`.
    """

    def __init__(self, *, limit: int, most: int, header_timeout_s: float, write_timeout_s: float) -> None:
        self._limit, self._most = limit, most
        self._header_timeout_s, self._write_timeout_s = header_timeout_s, write_timeout_s
        self._by_client: dict[Any, Connection] = {}

    def __len__(self) -> int:
        return len(self._by_client)

    def opened(self, transport: asyncio.Transport) -> None:
        if len(self) >= self._most:
            transport.abort()
        else:
            self._by_client[_client(transport)] = Connection(transport)

    def received(self, transport: asyncio.Transport, data: bytes) -> bool:
        """Whether data may go on to the parser: not those of a head without end."""
        connection = self._by_client.get(_client(transport))
        if connection is None:
            return False
        connection.receive(data)
        if connection.head > _MAX_HEAD:
            connection.transport.abort()
        return connection.head <= _MAX_HEAD

    def closed(self, transport: asyncio.Transport) -> None:
        client = _client(transport)
        if client in self._by_client and self._by_client[client].transport is transport:
            del self._by_client[client]

    def set_busy(self, scope: Scope, busy: bool) -> None:
        connection = self._by_client.get(tuple(scope.get("client") or ()))
        if connection is not None:
            connection.set_busy(busy)

    def abort(self, scope: Scope) -> None:
        """Close at once, with what was not sent: nobody reads it."""
        self._close(tuple(scope.get("client") or ()))

    async def watch(self) -> None:
        """Close what is late, until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._make_room()
            for connection in [c for c in self._by_client.values() if not c.busy]:
                self._close_if_late(connection.transport, time.monotonic() - connection.since)

    def _make_room(self) -> None:
        """Close those that were idle longest, as many as there are too many."""
        excess, before = len(self) - self._limit, time.monotonic() - _GRACE_S
        if excess > 0:
            idle = [(c.since, client) for client, c in self._by_client.items() if c.idle and c.since < before]
            for _, client in heapq.nsmallest(excess, idle):
                self._close(client)

    def _close_if_late(self, transport: asyncio.Transport, idle_s: float) -> None:
        """What is left of an answer is still sent, unless nobody reads it."""
        if transport.get_write_buffer_size():
            if idle_s > self._write_timeout_s:
                transport.abort()
        elif idle_s > self._header_timeout_s:
            transport.close()

    def _close(self, client: Any) -> None:
        connection = self._by_client.pop(client, None)
        if connection is not None:
            connection.transport.abort()


def _client(transport: asyncio.Transport) -> Any:
    """As ASGI names it in a scope; IPv6 has more in its address."""
    return (transport.get_extra_info("peername") or ())[:2]


def watched(protocol: type[Any], connections: Connections) -> type[Any]:
    """uvicorn's protocol class, telling `connections` what happens."""

    class Watched(protocol):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            connections.opened(transport)

        def data_received(self, data: bytes) -> None:
            if connections.received(self.transport, data):
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.closed(self.transport)
            super().connection_lost(exc)

    return Watched


class BusyConnections:
    """The application, around it: a connection is busy while a request of it is answered."""

    def __init__(self, app: ASGIApp, connections: Connections) -> None:
        self._app, self._connections = app, connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._connections.set_busy(scope, True)
        try:
            await self._app(scope, receive, send)
        finally:
            self._connections.set_busy(scope, False)
