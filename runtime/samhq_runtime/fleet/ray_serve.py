"""The server of `samhq serve`, over HTTP, as a Ray Serve deployment: replicas, placement and scaling are Ray's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application

from ..serve.http_server import make_app
from ..serve.options import ServeOptions
from ..serve.service import Service


def deployment(
    bundle: Path, options: ServeOptions, *, replicas: int = 1, cpus: float = 1, gpus: float = 0
) -> Application:
    """An application for `ray.serve.run`; each replica loads the bundle and answers the Open Inference Protocol.

    Requests for the same image are batched, and share its embedding, within a replica.

    Args:
        bundle: a folder that every node sees under the same path.
        options: as for `samhq serve`; addresses and ports are Ray's.
        replicas: how many.
        cpus, gpus: what each takes; fractions are allowed.
    """

    @serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=options.max_concurrency,
        graceful_shutdown_timeout_s=options.grace_s,
    )
    class Replica:
        def __init__(self) -> None:
            self._service = Service(str(bundle), options)
            self._app: Any = make_app(self._service)

        async def __call__(self, request: Any) -> Any:
            return await _asgi_response(self._app, request)

        def check_health(self) -> None:
            if not self._service.ready:
                raise RuntimeError("a worker of this replica has ended")

    return Replica.bind()  # type: ignore[attr-defined]


async def _asgi_response(app: Any, request: Any) -> Any:
    """What `app` answers to a Starlette request, as one response."""
    from starlette.responses import Response

    start: dict[str, Any] = {}
    body: list[bytes] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body.append(message.get("body", b""))

    await app(request.scope, request.receive, send)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Response(b"".join(body), status_code=start["status"], headers=headers)
