"""The protocol over HTTP, and `/metrics`."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .. import __version__
from ..errors import BackendUnavailable, ImageError, PromptError
from .about import EXTENSIONS, model_config, repository_index, statistics
from .access import Access, TokenAccess
from .access_log import METRICS, REQUEST_ID
from .connections import BusyConnections, Connections, watched
from .errors import Reason, RequestError, message_of, reason_of
from .files_limit import most_http_connections
from .held import Holding
from .http_codec import HEADER_LENGTH
from .http_infer import Infer
from .http_log import LoggedRequests
from .options import FLUSH_S, ServeOptions
from .service import Service
from .time_limit import time_limit
from .tls import Certificate
from .tokens import CHALLENGE

STATUS = {
    Reason.INVALID: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.TOO_LARGE: 413,
    Reason.UNSUPPORTED: 415,
    Reason.BUSY: 503,
    Reason.TIMEOUT: 504,
    Reason.INTERNAL: 500,
}


_MOST_OF_A_QUESTION = 1000


def make_app(service: Service, connections: Connections | None = None) -> ASGIApp:
    """The ASGI application; uvicorn runs it here with its `connections`, Ray Serve or another server elsewhere."""
    http = _Http(service)
    model = "/v2/models/{model}"
    versioned = model + "/versions/{version}"
    app = Starlette(
        routes=[
            Route("/v2", http.server_metadata),
            Route("/v2/health/live", http.live),
            Route("/v2/health/ready", http.ready),
            Route("/v2/models/stats", http.statistics),
            *(Route(path, http.model_metadata) for path in (model, versioned)),
            *(Route(f"{path}/ready", http.model_ready) for path in (model, versioned)),
            *(Route(f"{path}/infer", Infer(service, connections), methods=["POST"]) for path in (model, versioned)),
            *(Route(f"{path}/config", http.model_config) for path in (model, versioned)),
            *(Route(f"{path}/stats", http.statistics) for path in (model, versioned)),
            Route("/v2/repository/index", http.repository_index, methods=["POST"]),
            Route(METRICS, http.metrics),
        ],
        middleware=_middleware(service, connections),
        exception_handlers={
            **dict.fromkeys((RequestError, PromptError, ImageError, MemoryError), _refused),
            HTTPException: _no_such_route,
            Exception: _broken,
        },
    )
    return LoggedRequests(app, service.tracer)


def _middleware(service: Service, connections: Connections | None) -> list[Middleware]:
    """From the outside in."""
    options = service.options
    cross_origin = Middleware(
        CORSMiddleware,
        allow_origins=list(options.allow_origin),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[HEADER_LENGTH, REQUEST_ID],
    )
    return [
        *([Middleware(BusyConnections, connections)] if connections is not None else []),
        Middleware(Access, options, _answer_to),
        *([cross_origin] if options.allow_origin else []),
        Middleware(TokenAccess, service.tokens, [METRICS] if options.public_metrics else [], _answer_to),
    ]


class HttpServer(uvicorn.Server):
    """uvicorn on a socket that is bound at once, without signal handlers of its own."""

    def __init__(self, service: Service, certificate: Certificate | None = None) -> None:
        options = service.options
        self._socket = _listen(options)
        self.port: int = self._socket.getsockname()[1]
        self._connections = Connections(
            limit=options.max_connections,
            most=most_http_connections(options.max_connections),
            header_timeout_s=options.header_timeout_s,
            write_timeout_s=options.write_timeout_s,
        )
        config = uvicorn.Config(
            make_app(service, self._connections),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=math.ceil(options.grace_s + FLUSH_S),
        )
        config.load()
        config.ssl = certificate.context if certificate else None
        config.http_protocol_class = watched(config.http_protocol_class, self._connections)
        super().__init__(config)

    async def run_until_stopped(self) -> None:
        """Serve until `stop`, then finish what is in flight."""
        watching = asyncio.create_task(self._connections.watch())
        try:
            await self.serve(sockets=[self._socket])
        finally:
            watching.cancel()

    def stop(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the runner listens to signals, for both servers


class _Http:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def server_metadata(self, request: Request) -> Response:
        return _json({"name": "samhq", "version": __version__, "extensions": EXTENSIONS})

    async def live(self, request: Request) -> Response:
        return _json({"live": self._service.live}, status=200 if self._service.live else 503)

    async def ready(self, request: Request) -> Response:
        reason = self._service.not_ready
        return _json({"ready": False, "reason": reason} if reason else {"ready": True}, status=503 if reason else 200)

    async def model_metadata(self, request: Request) -> Response:
        self._require_model(request)
        return _json(self._service.metadata())

    async def model_ready(self, request: Request) -> Response:
        self._require_model(request)
        return await self.ready(request)

    async def model_config(self, request: Request) -> Response:
        self._require_model(request)
        return _json(model_config(self._service))

    async def statistics(self, request: Request) -> Response:
        if "model" in request.path_params:
            self._require_model(request)
        return _json(statistics(self._service))

    async def repository_index(self, request: Request) -> Response:
        limit_s = self._service.options.body_timeout_s
        with Holding(self._service.held), time_limit(limit_s, "the body did not arrive in time"):
            ready = await _asks_for_ready(request)
        return _json(repository_index(self._service, ready=ready))

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.text(), media_type="text/plain; version=0.0.4")

    def _require_model(self, request: Request) -> None:
        self._service.require_model(request.path_params["model"], request.path_params.get("version", ""))


async def _asks_for_ready(request: Request) -> bool:
    """What the body of an index request says; a few bytes, or none."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_OF_A_QUESTION:
            raise RequestError(f"body: larger than {_MOST_OF_A_QUESTION} bytes", reason=Reason.TOO_LARGE)
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as e:
        raise RequestError(f"body: not JSON ({e})") from e
    return isinstance(content, dict) and content.get("ready") is True


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
    return _answer_to(error)


def _answer_to(error: Exception) -> Response:
    response = _json({"error": message_of(error)}, status=STATUS[reason_of(error)])
    if reason_of(error) is Reason.UNAUTHENTICATED:
        response.headers["WWW-Authenticate"] = CHALLENGE
    return response


async def _no_such_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": f"{request.method} {request.url.path[:200]}: {error.detail}"}, status=error.status_code)


async def _broken(request: Request, error: Exception) -> Response:
    """A bug of ours; `LoggedRequests` logs it."""
    return _json({"error": "internal error; the server's log has it"}, status=STATUS[Reason.INTERNAL])
