"""What clients, probes and web pages send that the protocol's text alone does not show."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from samhq_runtime import Bundle
from samhq_runtime.errors import ConfigError
from samhq_runtime.serve.options import ServeOptions
from tests.support.proto_text import proto_text
from tests.support.serving import BOX, IMAGE, INFER, Running, grpc_call, grpc_request, png, running, send
from tests.support.triton_client import connected, tensor, triton_http

PAGE = "https://example.org"


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Running]:
    with running(tiny_bundle, allow_origin=(PAGE,)) as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Running) -> Iterator[tuple[Any, Any]]:
    with connected(request.param, server) as client:
        yield client


def infer(client: tuple[Any, Any], **options: Any) -> Any:
    module, connected = client
    inputs = [tensor(module, "image", IMAGE, "UINT8"), tensor(module, "box", BOX, "FP32")]
    return connected.infer("samhq", inputs, **options)


OPTIONS: dict[str, dict[str, Any]] = {
    "priority": {"priority": 3},
    "sequence": {"sequence_id": 7, "sequence_start": True, "sequence_end": True},
    "a timeout": {"timeout": 20_000_000},
    "all, beside ours": {"priority": 1, "timeout": 9_000_000, "parameters": {"hq_token_only": True}},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_parameters_of_the_protocol(client: tuple[Any, Any], case: str) -> None:
    assert infer(client, **OPTIONS[case]).as_numpy("masks").shape == (1, 1, *IMAGE.shape[:2])


def test_a_requests_own_timeout_is_honoured(client: tuple[Any, Any]) -> None:
    error = pytest.importorskip("tritonclient.utils").InferenceServerException
    with pytest.raises(error, match="not answered within 1e-06 s"):
        infer(client, timeout=1)


@pytest.mark.parametrize("value", ["soon", -1, 1.5, True])
def test_timeouts_that_are_none(server: Running, value: Any) -> None:
    body = {**json_request(png(IMAGE)), "parameters": {"timeout": value}}
    status, _, answer = send(server.http_port, "POST", INFER, json.dumps(body).encode())
    assert status == 400, answer
    assert b"expected microseconds" in answer


def test_configuration_statistics_and_index(client: tuple[Any, Any]) -> None:
    module, connected = client
    infer(client)
    as_json = {} if module is triton_http else {"as_json": True}
    config = connected.get_model_config("samhq", **as_json)
    config = config.get("config", config)
    assert config["input"][0] | {"dims": None} == {
        "name": "image_bytes",
        "data_type": "TYPE_STRING",
        "dims": None,
        "optional": True,
    }
    assert [int(size) for size in config["output"][0]["dims"]] == [-1, -1, -1, -1]
    for arguments in ({"model_name": "samhq"}, {}):
        found = connected.get_inference_statistics(**arguments, **as_json)["model_stats"][0]
        assert int(found["inference_stats"]["success"]["count"]) >= 1
        assert int(found["inference_stats"]["success"]["ns"]) > 0
        assert int(found["last_inference"]) > 1_700_000_000_000
    index = connected.get_model_repository_index(**as_json)
    models = index if isinstance(index, list) else index["models"]
    assert [(model["name"], model["state"]) for model in models] == [("samhq", "READY")]
    assert "statistics" in connected.get_server_metadata(**as_json)["extensions"]


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b'{"ready": true}', 200), (b"{", 400), (b" " * 2000, 413)])
def test_bodies_of_index_requests(server: Running, body: bytes, status: int) -> None:
    assert send(server.http_port, "POST", "/v2/repository/index", body)[0] == status


@pytest.mark.parametrize("path", ["other/config", "other/stats", "samhq/versions/2/config"])
def test_other_models_are_not_found(server: Running, path: str) -> None:
    assert send(server.http_port, "GET", f"/v2/models/{path}")[0] == 404


def test_health_of_grpc(server: Running) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService", "samhq"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=10)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_that_is_watched(tiny_bundle: Bundle) -> None:
    """Stopping is told to those who watch."""
    with (
        running(tiny_bundle) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        kinds = health_pb2.HealthCheckResponse
        assert next(watch).status == kinds.SERVING
        server.service.start_draining()
        assert next(watch).status == kinds.NOT_SERVING
        watch.cancel()


def test_reflection(server: Running) -> None:
    """As grpcurl asks: the services, then the file of one, and with it a call."""
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
    ]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        services, ours, health = stub.ServerReflectionInfo(iter(asked), timeout=10)
    names = {service.name for service in services.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    file = descriptor_pb2.FileDescriptorProto.FromString(ours.file_descriptor_response.file_descriptor_proto[0])
    assert "ModelInfer" in {method.name for method in file.service[0].method}
    assert health.file_descriptor_response.file_descriptor_proto


def test_the_proto_file_is_what_the_server_speaks() -> None:
    """`python -m tests.support.proto_text > deploy/inference.proto` writes it."""
    path = Path(__file__).parents[3] / "deploy" / "inference.proto"
    assert path.read_text(encoding="utf-8") == proto_text()


def test_shutting_down_says_not_ready(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle) as server:
        server.service.start_draining()
        answer = send(server.http_port, "POST", "/v2/repository/index")[2]
        assert json.loads(answer)[0]["state"] == "UNAVAILABLE"
        assert send(server.http_port, "POST", "/v2/repository/index", b'{"ready": true}')[2] == b"[]"


def json_request(image: bytes | str) -> dict[str, Any]:
    text = base64.b64encode(image).decode() if isinstance(image, bytes) else image
    return {
        "inputs": [
            {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [text]},
            {"name": "box", "datatype": "FP32", "shape": [4], "data": BOX[0].tolist()},
        ],
        "outputs": [{"name": "iou_predictions"}],
    }


def standard(image: bytes) -> str:
    return base64.b64encode(image).decode()


BASE64: dict[str, Callable[[bytes], str]] = {
    "as it is": standard,
    "lines": lambda image: "\n".join(textwrap.wrap(standard(image), 76)) + "\n",
    "lines of Windows": lambda image: "\r\n".join(textwrap.wrap(standard(image), 64)),
    "a data: URI": lambda image: f"data:image/png;base64,{standard(image)}",
    "with parameters": lambda image: f"data:image/png;name=a.png;base64,{standard(image)}",
    "escaped": lambda image: f"DATA:image/png;BASE64,{quote(standard(image), safe='')}",
    "URL-safe": lambda image: base64.urlsafe_b64encode(image).decode(),
    "URL-safe, unpadded": lambda image: base64.urlsafe_b64encode(image + b"\0").decode().rstrip("="),
}


@pytest.mark.parametrize("case", BASE64)
def test_base64_as_programs_write_it(server: Running, case: str) -> None:
    body = json.dumps(json_request(BASE64[case](png(IMAGE)))).encode()
    status, _, answer = send(server.http_port, "POST", INFER, body)
    assert status == 200, answer


def test_lines_that_json_does_not_escape(server: Running) -> None:
    """What `"$(base64 < cat.jpg)"` in a shell makes."""
    body = json.dumps(json_request(BASE64["lines"](png(IMAGE)))).replace("\\n", "\n").encode()
    assert send(server.http_port, "POST", INFER, body)[0] == 200


@pytest.mark.parametrize(
    "text", ["!", "a", "data:image/png,rawbytes", "data:image/png;base64", "YWJj!YWJj", "YQ==YQ==", "é", "cat.jpg"]
)
def test_what_is_no_base64(server: Running, text: str) -> None:
    status, _, answer = send(server.http_port, "POST", INFER, json.dumps(json_request(text)).encode())
    assert status == 400
    assert b"base64" in answer or b"image" in answer


def test_a_web_page_that_is_allowed(server: Running) -> None:
    """The browser's question first, then the request itself, whose answer the page may read."""
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    status, headers, _ = send(server.http_port, "OPTIONS", INFER, headers={"Origin": PAGE, **asks})
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert "content-type" in headers["access-control-allow-headers"]
    body = json.dumps(json_request(png(IMAGE))).encode()
    given = {"Origin": PAGE, "Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}
    status, headers, _ = send(server.http_port, "POST", INFER, body, given)
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert send(server.http_port, "OPTIONS", INFER, headers={"Origin": "https://other.org", **asks})[0] == 403


def test_all_web_pages(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle, allow_origin=("*",)) as server:
        status, headers, _ = send(server.http_port, "GET", "/v2", headers={"Origin": "https://any.org"})
    assert (status, headers["access-control-allow-origin"]) == (200, "*")


@pytest.mark.parametrize("origin", ["https://example.org/", "example.org", "https://a.org/page", "", "https://*.a.org"])
def test_origins_that_no_browser_sends(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"--allow-origin.*expected scheme and host"):
        ServeOptions(allow_origin=(origin,))


def test_answers_beyond_the_usual_limit_of_clients(server: Running) -> None:
    """4 MiB, unless a client asks for more."""
    image = np.zeros((2100, 2100, 3), np.uint8)
    request = grpc_request({"image_bytes": png(image), "box": BOX}, ["masks"])
    assert len(grpc_call(server.grpc_port, "ModelInfer", request).raw_output_contents[0]) == 2100 * 2100
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as error:
            call(request.SerializeToString(), timeout=30)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
