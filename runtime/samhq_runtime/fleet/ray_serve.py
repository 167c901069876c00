"""The server of `samhq serve`, over HTTP, as a Ray Serve deployment: replicas, placement and scaling are Ray's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ray import serve
from ray.serve import Application
from starlette.types import ASGIApp, Receive, Scope, Send

from ..serve.http_server import make_app
from ..serve.logs import configure_logging
from ..serve.options import ServeOptions
from ..serve.service import Service


def deployment(
    bundle: Path, options: ServeOptions, *, replicas: int = 1, cpus: float = 1, gpus: float = 0
) -> Application:
    """An application for `ray.serve.run`; each replica loads the bundle and answers the Open Inference Protocol.

    Requests for the same image are batched, and share its embedding, within a replica.

    Args:
        bundle: a folder that every node sees under the same path.
        options: as for `samhq serve`; addresses, ports, connections and TLS are those of Ray's proxies.
        replicas: how many.
        cpus, gpus: what each takes; fractions are allowed.
    """

    @serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
        max_ongoing_requests=options.max_concurrency,
        graceful_shutdown_timeout_s=options.grace_s,
    )
    @serve.ingress(_App(bundle, options))
    class Replica:
        def __init__(self) -> None:
            _server(bundle, options)  # before the first request asks for it

        def check_health(self) -> None:
            if not _server(bundle, options)[0].ready:
                raise RuntimeError("a worker of this replica has ended")

    return Replica.bind()  # type: ignore[attr-defined]


@cache
def _server(bundle: Path, options: ServeOptions) -> tuple[Service, ASGIApp]:
    """Those of this process, which is a replica's: its log on stderr is in the files that Ray keeps of its workers."""
    configure_logging(options.log_format, options.log_level)
    service = Service(str(bundle), options)
    return service, make_app(service)


@dataclass(frozen=True)
class _App:
    """An ASGI application that can be sent to a replica, unlike the server it hands its requests to."""

    bundle: Path
    options: ServeOptions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _server(self.bundle, self.options)[1](scope, receive, send)
