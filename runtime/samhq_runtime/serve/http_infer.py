"""Inference over HTTP: bodies are read, and answers written, under time limits, and counted while they are here."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from ..errors import SamHqError
from .access_log import adopt_id
from .connections import Connections
from .errors import Reason, RequestError
from .held import Holding
from .http_codec import HEADER_LENGTH, read_request, write_response
from .off_loop import off_loop
from .options import MEGA
from .service import MODEL_VERSION, Service
from .time_limit import time_limit

_PIECE = 1 << 16  # of an answer: what lies in the connection's own buffer is not counted


class Infer:
    """An ASGI application of its own, as starlette's responses do not say when a client has read them."""

    def __init__(self, service: Service, connections: Connections | None) -> None:
        self._service, self._options, self._connections = service, service.options, connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with self._service.counted("http") as holding:
            try:
                body, json_length = await self._answer(request, holding)
            except SamHqError:
                await self._discard(request)
                raise
            try:
                await self._write(send, body, json_length)
            except (RequestError, asyncio.CancelledError) as e:  # an answer that has begun cannot become a refusal
                if isinstance(e, asyncio.CancelledError) and holding.refusal is None:
                    raise
                if self._connections is not None:
                    self._connections.abort(scope)

    async def _answer(self, request: Request, holding: Holding) -> tuple[list[memoryview], int]:
        """The pieces of the answer's body, and how many bytes of it are JSON."""
        options = self._options
        self._service.require_model(request.path_params["model"], request.path_params.get("version", ""))
        body = await self._body(request, holding)
        with self._service.admitted():
            header_length, most = request.headers.get(HEADER_LENGTH), options.max_json_values
            parsed = await off_loop(len(body), lambda: read_request(body, header_length, max_values=most))
            adopt_id(parsed.id)
            tensors = await self._service.infer(parsed.infer, holding)
            name, size = options.model_name, sum(tensor.nbytes for tensor in tensors)
            return await off_loop(size, lambda: write_response(parsed, tensors, model=name, version=MODEL_VERSION))

    async def _write(self, send: Send, body: list[memoryview], json_length: int) -> None:
        length = sum(map(len, body))
        binary = json_length < length
        kind = b"application/octet-stream" if binary else b"application/json"
        headers = [(b"content-type", kind), (b"content-length", str(length).encode())]
        if binary:
            headers.append((HEADER_LENGTH.encode(), str(json_length).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in (part[start : start + _PIECE] for part in body for start in range(0, len(part), _PIECE)):
            with time_limit(self._options.write_timeout_s, "the answer was not read in time"):
                await send({"type": "http.response.body", "body": bytes(piece), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, request: Request, holding: Holding) -> bytes:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestError("compressed bodies are not read; send it as it is", reason=Reason.UNSUPPORTED)
        try:
            with time_limit(self._options.body_timeout_s, "the body did not arrive in time"):
                body = await self._read(request, holding)
        except ClientDisconnect as e:
            raise RequestError("the client went away while it sent the body") from e
        holding.arrived(len(body))
        return body

    async def _read(self, request: Request, holding: Holding) -> bytes:
        limit = self._options.max_request_mb * MEGA
        too_large = RequestError(
            f"body: larger than {limit} bytes, the most this server reads", reason=Reason.TOO_LARGE
        )
        if len(request.headers.get("content-length", "")) > len(str(limit)):
            raise too_large
        body = bytearray()
        async for piece in request.stream():
            await holding.arrive(len(piece))
            body += piece
            if len(body) > limit:
                raise too_large
        return bytes(body)

    async def _discard(self, request: Request) -> None:
        """Read what is left of a refused body: a client that is still sending would not see the refusal otherwise."""

        async def read() -> None:
            async for _ in request.stream():
                pass

        with suppress(RuntimeError, ClientDisconnect, asyncio.TimeoutError):  # RuntimeError: all was read before
            await asyncio.wait_for(read(), self._options.header_timeout_s)
