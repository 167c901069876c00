"""HTTP: JSON alone, the binary extension, health, metadata, metrics, and bodies that are refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from samhq_runtime import Predictor
from samhq_runtime.masks.rle import encode_rle
from tests.support.serving import BOX, IMAGE, INFER, Running, http_body, http_error, infer_grpc, infer_http, png, send


def test_json_alone(server: Running, predictor: Predictor) -> None:
    """What curl can do: no bytes beside the JSON, an image file in base64."""
    got = infer_http(server, {"image": IMAGE, "box": BOX}, binary=False)
    np.testing.assert_array_equal(got["masks"], predictor.predict_batch(box=BOX)[0])
    encoded = base64.b64encode(png(IMAGE)).decode()
    inputs = [
        {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [encoded]},
        {"name": "box", "datatype": "FP32", "shape": [1, 4], "data": BOX.tolist()},
    ]
    outputs = [{"name": "masks_rle"}, {"name": "masks_png"}]
    status, headers, body = send(
        server.http_port, "POST", INFER, json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    )
    assert (status, headers["content-type"]) == (200, "application/json")
    rle, image = (output["data"][0] for output in json.loads(body)["outputs"])
    assert rle.encode() == encode_rle(got["masks"][0, 0])
    assert base64.b64decode(image).startswith(b"\x89PNG")


def test_health_and_metadata_over_http(server: Running) -> None:
    def get(path: str) -> tuple[int, Any]:
        status, _, body = send(server.http_port, "GET", path)
        return status, json.loads(body)

    assert get("/v2/health/live") == (200, {"live": True})
    assert get("/v2/health/ready") == (200, {"ready": True})
    assert get("/v2/models/samhq/ready")[0] == 200
    assert get("/v2/models/samhq/versions/1/ready")[0] == 200
    assert get("/v2")[1]["extensions"][0] == "binary_tensor_data"
    status, metadata = get("/v2/models/samhq")
    assert (status, metadata) == (200, server.service.metadata())
    shapes = {item["name"]: item["shape"] for item in metadata["inputs"] + metadata["outputs"]}
    assert shapes["mask_input"] == [-1, 1, 32, 32]
    assert get("/v2/models/other")[0] == 404
    assert get("/v2/models/samhq/versions/2/ready")[0] == 404
    assert get("/nothing") == (404, {"error": "GET /nothing: Not Found"})
    assert get(INFER)[0] == 405


def test_metrics(server: Running) -> None:
    infer_grpc(server, {"image": IMAGE, "box": BOX})
    status, headers, body = send(server.http_port, "GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    assert float(lines['samhq_requests_total{outcome="ok",protocol="grpc"}']) >= 1
    assert float(lines["samhq_cached_bytes"]) > 0
    assert lines["samhq_requests_in_flight"] == "0.0"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected an object"),
        (b"{}", "inputs: expected a list"),
        (b'{"inputs": [1]}', "inputs: expected a list of objects"),
        (b'{"inputs": [{"name": 3}]}', "name: got 3"),
        (b'{"inputs": [{"name": "box", "datatype": "FP32", "shape": "4", "data": []}]}', "box: got shape '4'"),
        (b'{"inputs": [{"name": "box", "datatype": "FP32", "shape": [4]}]}', "box: expected `data`"),
        (b'{"inputs": [{"name": "box", "datatype": "FP32", "shape": [4], "data": [1, 2]}]}', "got 2 elements"),
        (
            b'{"inputs": [{"name": "box", "datatype": "FP32", "shape": [4], "parameters": {"binary_data_size": 16}}]}',
            "binary_data_size 16, but 0 bytes",
        ),
        (b'{"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": ["!"]}]}', "base64"),
        (b'{"inputs": [], "parameters": 1}', "parameters: got int"),
        (b'{"inputs": [], "outputs": [{"name": "masks"}, {"name": "masks"}]}', "named more than once: masks"),
    ],
)
def test_malformed_http_bodies(server: Running, body: bytes, complaint: str) -> None:
    status, message = http_error(server, body)
    assert status == 400
    assert complaint in message


@pytest.mark.parametrize(("length", "extra"), [("-1", b""), ("x", b""), ("999999999", b""), (None, b"1234")])
def test_wrong_lengths_in_the_binary_extension(server: Running, length: str | None, extra: bytes) -> None:
    body, json_length = http_body({"image": IMAGE, "box": BOX})
    headers = {"Inference_Header_Content_Length": length or str(json_length)}
    assert http_error(server, body + extra, **headers)[0] == 400


def test_compressed_bodies_are_refused(server: Running) -> None:
    assert http_error(server, b"{}", Content_Encoding="gzip")[0] == 415
