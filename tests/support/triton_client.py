"""Triton's own clients of both protocols, on a running server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.required import required
from tests.support.serving import Running

triton_http = required("tritonclient.http", install="samhq-export[triton]")
triton_grpc = required("tritonclient.grpc", install="samhq-export[triton]")


@contextmanager
def connected(protocol: str, server: Running) -> Iterator[tuple[Any, Any]]:
    """The client's module and a connected client."""
    module = triton_http if protocol == "http" else triton_grpc
    port = server.http_port if protocol == "http" else server.grpc_port
    with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield module, client


def tensor(module: Any, name: str, data: Any, datatype: str) -> Any:
    """An input of a request."""
    given = module.InferInput(name, list(data.shape), datatype)
    given.set_data_from_numpy(data)
    return given
