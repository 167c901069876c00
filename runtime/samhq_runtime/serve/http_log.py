"""Around the whole HTTP application: a line in the log for each request, and its id in the answer."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .access_log import REQUEST_ID, Entry, begin
from .traces import Tracer

log = logging.getLogger(__name__)


class LoggedRequests:
    """An application around one that has answered whatever error comes here."""

    def __init__(self, app: ASGIApp, tracer: Tracer | None = None) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        peer = _address(*client[:2]) if client else ""
        entry = begin("http", scope["method"], scope["path"], peer, Headers(scope=scope), self._tracer)
        try:
            await self._app(scope, _counting(receive, entry), _telling(send, entry))
        except Exception:
            log.exception("%s %s failed", entry.method, entry.path)
        finally:
            entry.write()


def _counting(receive: Receive, entry: Entry) -> Receive:
    async def count() -> Message:
        message = await receive()
        entry.received += len(message.get("body", b""))
        return message

    return count


def _telling(send: Send, entry: Entry) -> Send:
    """Adds the id to the answer, and notes how it ends."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry.status = message["status"]
            headers = [*message.get("headers", ()), (REQUEST_ID.encode(), entry.id.encode())]
            message = {**message, "headers": headers}
        else:
            entry.sent += len(message.get("body", b""))
        await send(message)

    return tell


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
