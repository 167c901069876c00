"""What gRPC's own tools look for on any server: `grpc.health.v1`, for probes, and reflection, for grpcurl."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from .messages import PACKAGE, SERVICE, add_to_pool
from .service import Service

_WATCH_S = 1.0  # between two looks at a health that is watched
_MOST_WATCHERS = 100


def add_standard_services(server: aio.Server, service: Service) -> None:
    health_pb2_grpc.add_HealthServicer_to_server(Health(service), server)
    names = [f"{PACKAGE}.{SERVICE}", *_services_of(health_pb2), *_services_of(reflection_pb2)]
    pool = add_to_pool(health_pb2.DESCRIPTOR.serialized_pb, reflection_pb2.DESCRIPTOR.serialized_pb)
    reflection.enable_server_reflection(names, server, pool=pool)


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """SERVING while the server is ready: for the empty service name, the protocol's, and the model's."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._names = ("", f"{PACKAGE}.{SERVICE}", service.options.model_name)
        self._watchers = 0

    async def Check(self, request: Any, context: aio.ServicerContext) -> Any:  # noqa: N802
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service; expected one of {self._names}")
        return self._status(request.service)

    async def Watch(self, request: Any, context: aio.ServicerContext) -> None:  # noqa: N802
        """The status, and again whenever it changes; ends when the server stops, which waits for all calls."""
        if self._watchers >= _MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_MOST_WATCHERS} clients watch; use Check")
        self._watchers += 1
        last = None
        try:
            while True:
                draining = self._service.draining  # asked before the status: it may begin while that is written
                status = self._status(request.service)
                if status != last:
                    last = status
                    await context.write(status)
                if draining:
                    return
                await asyncio.sleep(_WATCH_S)
        finally:
            self._watchers -= 1

    def _status(self, name: str) -> Any:
        kinds = health_pb2.HealthCheckResponse
        if name not in self._names:
            return kinds(status=kinds.SERVICE_UNKNOWN)
        return kinds(status=kinds.SERVING if self._service.ready else kinds.NOT_SERVING)


def _services_of(module: Any) -> list[str]:
    return [service.full_name for service in module.DESCRIPTOR.services_by_name.values()]
