"""The protocol over HTTP, and `/metrics`."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from .. import __version__
from ..errors import BackendUnavailable, ImageError, PromptError, SamHqError
from .errors import Reason, RequestError, reason_of
from .http_codec import HEADER_LENGTH, read_request, write_response
from .off_loop import off_loop
from .options import ServeOptions
from .service import MODEL_VERSION, Service

STATUS = {
    Reason.INVALID: 400,
    Reason.NOT_FOUND: 404,
    Reason.TOO_LARGE: 413,
    Reason.UNSUPPORTED: 415,
    Reason.BUSY: 503,
    Reason.TIMEOUT: 504,
    Reason.INTERNAL: 500,
}


def make_app(service: Service) -> Starlette:
    """The ASGI application; uvicorn runs it here, Ray Serve or another server elsewhere."""
    http = _Http(service)
    model = "/v2/models/{model}"
    versioned = model + "/versions/{version}"
    return Starlette(
        routes=[
            Route("/v2", http.server_metadata),
            Route("/v2/health/live", http.live),
            Route("/v2/health/ready", http.ready),
            *(Route(path, http.model_metadata) for path in (model, versioned)),
            *(Route(f"{path}/ready", http.model_ready) for path in (model, versioned)),
            *(Route(f"{path}/infer", http.infer, methods=["POST"]) for path in (model, versioned)),
            Route("/metrics", http.metrics),
        ],
        exception_handlers={
            **dict.fromkeys((RequestError, PromptError, ImageError), _refused),
            HTTPException: _no_such_route,
            Exception: _broken,
        },
    )


class HttpServer(uvicorn.Server):
    """uvicorn on a socket that is bound at once, without signal handlers of its own."""

    def __init__(self, service: Service) -> None:
        options = service.options
        self._socket = _listen(options)
        self.port: int = self._socket.getsockname()[1]
        super().__init__(
            uvicorn.Config(
                make_app(service),
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=max(1, round(options.grace_s)),
            )
        )

    async def run_until_stopped(self) -> None:
        """Serve until `stop`, then finish what is in flight."""
        await self.serve(sockets=[self._socket])

    def stop(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the runner listens to signals, for both servers


class _Http:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def server_metadata(self, request: Request) -> Response:
        return _json({"name": "samhq", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def live(self, request: Request) -> Response:
        return _json({"live": self._service.live}, status=200 if self._service.live else 503)

    async def ready(self, request: Request) -> Response:
        return _json({"ready": self._service.ready}, status=200 if self._service.ready else 503)

    async def model_metadata(self, request: Request) -> Response:
        self._require_model(request)
        return _json(self._service.metadata())

    async def model_ready(self, request: Request) -> Response:
        self._require_model(request)
        return await self.ready(request)

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type="text/plain; version=0.0.4")

    async def infer(self, request: Request) -> Response:
        try:
            with self._service.admitted("http"):
                self._require_model(request)
                answer, json_length = await self._answer(request)
        except SamHqError:
            await self._discard(request)
            raise
        if json_length == len(answer):
            return Response(answer, media_type="application/json")
        return Response(answer, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_length)})

    async def _answer(self, request: Request) -> tuple[bytes, int]:
        body = await self._body(request)
        parsed = await off_loop(len(body), lambda: read_request(body, request.headers.get(HEADER_LENGTH)))
        tensors = await self._service.infer(parsed.infer)
        name = self._service.options.model_name
        size = sum(tensor.nbytes for tensor in tensors)
        return await off_loop(size, lambda: write_response(parsed, tensors, model=name, version=MODEL_VERSION))

    def _require_model(self, request: Request) -> None:
        self._service.require_model(request.path_params["model"], request.path_params.get("version", ""))

    async def _body(self, request: Request) -> bytes:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestError("compressed bodies are not read; send it as it is", reason=Reason.UNSUPPORTED)
        try:
            return await asyncio.wait_for(self._read(request), self._service.options.timeout_s)
        except asyncio.TimeoutError as e:
            raise RequestError("the body did not arrive in time", reason=Reason.TIMEOUT) from e
        except ClientDisconnect as e:
            raise RequestError("the client went away while it sent the body") from e

    async def _read(self, request: Request) -> bytes:
        limit = self._service.options.max_request_mb * 1_000_000
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                message = f"body: larger than {limit} bytes, the most this server reads"
                raise RequestError(message, reason=Reason.TOO_LARGE)
        return bytes(body)

    async def _discard(self, request: Request) -> None:
        """Read what is left of a refused body: a client that is still sending would not see the refusal otherwise."""

        async def read() -> None:
            async for _ in request.stream():
                pass

        with suppress(RuntimeError, ClientDisconnect, asyncio.TimeoutError):  # RuntimeError: all was read before
            await asyncio.wait_for(read(), self._service.options.timeout_s)


def _listen(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.http_port), family=family, backlog=1024)
    except (OSError, OverflowError) as e:
        address = options.address(options.http_port)
        raise BackendUnavailable(f"{address}: cannot listen there for HTTP ({e}); choose --http-port") from e


def _json(content: object, *, status: int = 200) -> Response:
    return Response(json.dumps(content), status_code=status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, status=STATUS[reason_of(error)])


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": f"{request.method} {request.url.path}: {error.detail}"}, status=error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    """A bug of ours; uvicorn logs it."""
    return _json({"error": "internal error; the server's log has it"}, status=STATUS[Reason.INTERNAL])
