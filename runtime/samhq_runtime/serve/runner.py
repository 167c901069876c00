"""Both protocols from one process, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from .ending import Deadline, stop_signal
from .grpc_server import GrpcServer
from .http_server import HttpServer
from .logs import configure_logging
from .options import LEAVE_S, ServeOptions
from .reloading import Reader, hangup_signal, reload_at
from .service import Service
from .tls import Certificate, certificate_of

log = logging.getLogger(__name__)


def serve(bundle: Path, options: ServeOptions) -> None:
    """Load the bundle, then listen; returns when all requests that were in flight at a signal are answered.

    Those that are not by the end of `grace_s` are refused. `LEAVE_S` later the process is left, if something is still
    being computed then.

    Raises:
        SamHqError: the bundle cannot be loaded, or an address cannot be listened on.
    """
    configure_logging(options.log_format, options.log_level)
    with Deadline() as deadline:
        asyncio.run(_serve(bundle, options, deadline))
        log.info("stopped")


async def _serve(bundle: Path, options: ServeOptions, deadline: Deadline) -> None:
    hangup = hangup_signal()
    service = Service(str(bundle), options)
    try:
        certificate = certificate_of(options)
        http, grpc = HttpServer(service, certificate), GrpcServer(service, certificate)
        await grpc.start()
        serving = asyncio.create_task(http.run_until_stopped())
        greeting = _greeting(service, http.port, grpc.port)
        print(greeting, flush=True)
        runs = str(service.bundle.ways(options.providers))
        log.info("serving %s as %s", service.bundle.path, greeting, extra={"fields": {"providers": runs}})
        reloading = asyncio.create_task(reload_at(hangup, _readers(service, certificate)))
        await _first(serving, reloading, stop_signal())
        reloading.cancel()
        deadline.set(options.grace_s + LEAVE_S)
        await _drain(service, http, grpc, serving)
    finally:
        service.close()


async def _drain(service: Service, http: HttpServer, grpc: GrpcServer, serving: asyncio.Task[None]) -> None:
    """Close both listeners; what is in flight may take `grace_s`."""
    grace_s = service.options.grace_s
    log.info("stopping; requests in flight may take %g s", grace_s)
    service.start_draining()
    http.stop()
    end = asyncio.get_running_loop().call_later(grace_s, _refuse_all, service)
    await asyncio.gather(serving, grpc.stop())
    end.cancel()


def _refuse_all(service: Service) -> None:
    count = service.refuse_all()
    if count:
        log.warning(
            "%g s of grace are over: %d requests in flight were refused (503, UNAVAILABLE)",
            service.options.grace_s,
            count,
        )


async def _first(*waits: asyncio.Task[Any]) -> None:
    done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _readers(service: Service, certificate: Certificate | None) -> dict[str, Reader]:
    """What is read again at SIGHUP, by name."""
    return {
        **({"token file": service.tokens.read} if service.options.token_file else {}),
        **({"certificate": certificate.read} if certificate else {}),
        "bundle": service.reload,
    }


def _greeting(service: Service, http_port: int, grpc_port: int) -> str:
    options, manifest = service.options, service.bundle.manifest
    scheme = "https" if options.tls_cert else "http"
    return (
        f"{options.model_name} ({manifest.variant}, {manifest.precision}): "
        f"{scheme}://{options.address(http_port)}/v2, gRPC {options.address(grpc_port)}"
    )
