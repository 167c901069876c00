"""Around every gRPC call, those of health and reflection too: its token, and its line in the log."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc
from grpc import aio

from .access_log import REQUEST_ID, Entry, begin, current_id, is_probe
from .errors import RequestError
from .tokens import Tokens
from .traces import Tracer

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GuardedCalls(aio.ServerInterceptor):  # type: ignore[misc]
    """Gives every call an entry in the access log, and its answer the id of it, as trailing metadata.

    All but health needs one of the tokens.
    """

    def __init__(self, tokens: Tokens, tracer: Tracer | None = None) -> None:
        self._tokens, self._tracer = tokens, tracer

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details) or grpc.stream_stream_rpc_method_handler(_unknown)
        metadata = dict(details.invocation_metadata or ())
        kind = "_".join("stream" if s else "unary" for s in (handler.request_streaming, handler.response_streaming))
        answer = getattr(handler, kind)

        async def call(request: Any, context: aio.ServicerContext) -> Any:
            entry = begin("grpc", "", details.method, _address(context.peer()), metadata, self._tracer)
            tell_id(context)
            try:
                await self._require_token(details.method, metadata.get("authorization"), context)
                return await _answered(answer, request, context, entry)
            except asyncio.CancelledError:
                entry.status = "CANCELLED"
                raise
            finally:
                entry.status = entry.status or _code_of(context)
                entry.write()

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(call, handler.request_deserializer, handler.response_serializer)

    async def _require_token(self, method: str, authorization: str | None, context: aio.ServicerContext) -> None:
        if not is_probe(method):
            try:
                self._tokens.require(authorization)
            except RequestError as e:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(e))


def tell_id(context: aio.ServicerContext) -> None:
    """Have the answer, or the refusal, say the request's id."""
    context.set_trailing_metadata(((REQUEST_ID, current_id()),))


async def _answered(answer: Any, request: Any, context: aio.ServicerContext, entry: Entry) -> Any:
    """The answer of a handler of any kind; messages of streams are counted by those who read them."""
    entry.received += _size(request)
    result = answer(request, context)
    if inspect.isasyncgen(result):
        async for message in result:
            entry.sent += _size(message)
            await context.write(message)
        return None
    result = await result
    entry.sent += _size(result)
    return result


def _size(message: Any) -> int:
    return message.ByteSize() if hasattr(message, "ByteSize") else 0


async def _unknown(requests: Any, context: aio.ServicerContext) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method; `grpcurl ... list` has those of this server")


def _code_of(context: aio.ServicerContext) -> str:
    """The name of the code that a handler has set, by number or as gRPC's own kind; none is OK."""
    code = context.code() or 0
    return str(_CODES.get(code, code).name)


def _address(peer: str) -> str:
    """`ipv4:127.0.0.1:50000` -> `127.0.0.1:50000`."""
    return unquote(peer.partition(":")[2])
