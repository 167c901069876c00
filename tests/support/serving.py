"""A server in a thread of this process, plain clients of both protocols without a client library, and requests."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime.bundle import Bundle
from samhq_runtime.serve.grpc_server import GrpcServer
from samhq_runtime.serve.http_server import HttpServer
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.options import ServeOptions
from samhq_runtime.serve.service import Service
from samhq_runtime.serve.tensors import Tensor, bytes_array, raw_of, tensor_from_raw, tensor_from_values
from samhq_runtime.serve.tls import Certificate, certificate_of

INFER = "/v2/models/samhq/infer"
BOX = np.array([[5.0, 6, 40, 50]], np.float32)
POINTS = {"point_coords": np.array([[[20.0, 30], [3, 4]]], np.float32), "point_labels": np.array([[1, 0]], np.int32)}


def picture(seed: int, *, height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


IMAGE = picture(0)


@dataclass(frozen=True)
class Running:
    service: Service
    http_port: int
    grpc_port: int
    certificate: Certificate | None = None


@contextmanager
def running(bundle: Bundle, **options: Any) -> Iterator[Running]:
    """Both servers on free ports, drained at the end."""
    service = Service(bundle, ServeOptions(http_port=0, grpc_port=0, threads=1, **options))
    certificate = certificate_of(service.options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[HttpServer, GrpcServer, asyncio.Task[None]]:
        http_server, grpc_server = HttpServer(service, certificate), GrpcServer(service, certificate)
        await grpc_server.start()
        return http_server, grpc_server, asyncio.create_task(http_server.run_until_stopped())

    http_server, grpc_server, serving = asyncio.run_coroutine_threadsafe(start(), loop).result()

    async def stop() -> None:
        http_server.stop()
        await asyncio.gather(serving, grpc_server.stop())

    try:
        yield Running(service, http_server.port, grpc_server.port, certificate)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        service.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def as_tensor(name: str, value: Any) -> Tensor:
    return Tensor(name, bytes_array([value]) if isinstance(value, bytes) else np.asarray(value))


def send(port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Any:
    """One HTTP exchange: (status, headers, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def grpc_call(port: int, method: str, request: Any, *, timeout: float = 30) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=MESSAGES[f"{method}Request"].SerializeToString,
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )
        return call(request, timeout=timeout)


def grpc_request(inputs: Mapping[str, Any], outputs: Sequence[str] = (), **parameters: bool) -> Any:
    request = MESSAGES["ModelInferRequest"](model_name="samhq", id="7")
    for tensor in (as_tensor(name, value) for name, value in inputs.items()):
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
        request.raw_input_contents.append(raw_of(tensor))
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in parameters.items():
        request.parameters[name].bool_param = value
    return request


def infer_grpc(server: Running, inputs: Mapping[str, Any], outputs: Sequence[str] = (), **parameters: bool) -> Any:
    response = grpc_call(server.grpc_port, "ModelInfer", grpc_request(inputs, outputs, **parameters))
    assert response.id == "7"
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {o.name: tensor_from_raw(o.name, o.datatype, o.shape, raw).data for o, raw in pairs}


def http_body(
    inputs: Mapping[str, Any], outputs: Sequence[str] = (), *, binary: bool = True, **parameters: bool
) -> tuple[bytes, int]:
    """A request of the binary extension, or one with JSON lists alone (no image bytes), and the length of its JSON."""
    head: dict[str, Any] = {"id": "7", "inputs": [], "parameters": {"binary_data_output": binary, **parameters}}
    blobs = []
    for tensor in (as_tensor(name, value) for name, value in inputs.items()):
        item: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.data.shape)}
        if binary:
            blobs.append(raw_of(tensor))
            item["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            item["data"] = tensor.data.tolist()
        head["inputs"].append(item)
    if outputs:
        head["outputs"] = [{"name": name} for name in outputs]
    text = json.dumps(head).encode()
    return b"".join([text, *blobs]), len(text)


def infer_http(
    server: Running, inputs: Mapping[str, Any], outputs: Sequence[str] = (), *, binary: bool = True, **parameters: bool
) -> Any:
    body, length = http_body(inputs, outputs, binary=binary, **parameters)
    status, headers, answer = send(
        server.http_port, "POST", INFER, body, {"Inference-Header-Content-Length": str(length)}
    )
    assert status == 200, answer
    split = int(headers.get("Inference-Header-Content-Length", len(answer)))
    head, rest = json.loads(answer[:split]), memoryview(answer)[split:]
    assert head["id"] == "7"
    arrays = {}
    for item in head["outputs"]:
        size = item.get("parameters", {}).get("binary_data_size")
        if size is None:
            arrays[item["name"]] = tensor_from_values(item["name"], item["datatype"], item["shape"], item["data"]).data
        else:
            arrays[item["name"]] = tensor_from_raw(item["name"], item["datatype"], item["shape"], rest[:size]).data
            rest = rest[size:]
    assert not rest
    return arrays


CLIENTS = [infer_grpc, infer_http]


def http_error(server: Running, body: bytes, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, answer = send(server.http_port, "POST", INFER, body, named)
    return status, json.loads(answer)["error"]


def outcome(server: Running) -> object:
    try:
        infer_grpc(server, {"image": IMAGE, "box": BOX})
    except grpc.RpcError as e:
        return e.code()
    return "ok"
