"""Both protocols from one process, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from .grpc_server import GrpcServer
from .http_server import HttpServer
from .options import LOG_FORMAT, ServeOptions
from .service import Service

log = logging.getLogger(__name__)


def serve(bundle: Path, options: ServeOptions) -> None:
    """Load the bundle, then listen; returns when all requests that were in flight at a signal are answered.

    Raises:
        SamHqError: the bundle cannot be loaded, or an address cannot be listened on.
    """
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    asyncio.run(_serve(bundle, options))


async def _serve(bundle: Path, options: ServeOptions) -> None:
    service = Service(str(bundle), options)
    try:
        http, grpc = HttpServer(service), GrpcServer(service)
        await grpc.start()
        serving = asyncio.create_task(http.run_until_stopped())
        print(_greeting(service, http.port, grpc.port), flush=True)
        await _first(serving, _stop_signal())
        service.start_draining()
        http.stop()
        await asyncio.gather(serving, grpc.stop())
    finally:
        service.close()


async def _first(*waits: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _stop_signal() -> asyncio.Task[None]:
    """Ends at the first SIGTERM or SIGINT; the second one kills the process, as if nobody listened."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)

    async def wait() -> None:
        await stopped.wait()

    return asyncio.create_task(wait())


def _greeting(service: Service, http_port: int, grpc_port: int) -> str:
    options, manifest = service.options, service.bundle.manifest
    return (
        f"{options.model_name} ({manifest.variant}, {manifest.precision}): "
        f"http://{options.address(http_port)}/v2, gRPC {options.address(grpc_port)}"
    )
