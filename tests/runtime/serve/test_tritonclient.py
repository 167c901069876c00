"""The protocol as somebody else's client speaks it: `tritonclient`, over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.serve.messages import MESSAGES
from tests.support.serving import Running, running
from tests.support.triton_client import connected, tensor, triton_http

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOX = np.array([[5, 6, 40, 50]], np.float32)


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Running]:
    with running(tiny_bundle, max_request_mb=1) as server:
        yield server


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Running) -> Iterator[tuple[Any, Any]]:
    with connected(request.param, server) as client:
        yield client


def test_health_and_metadata(client: tuple[Any, Any]) -> None:
    module, connected = client
    assert connected.is_server_live()
    assert connected.is_server_ready()
    assert connected.is_model_ready("samhq")
    as_json = {} if module is triton_http else {"as_json": True}
    assert connected.get_model_metadata("samhq", **as_json)["inputs"][0]["name"] == "image_bytes"
    assert connected.get_server_metadata(**as_json)["name"] == "samhq"


def test_masks(client: tuple[Any, Any], tiny_bundle: Bundle) -> None:
    module, connected = client
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        masks, iou_predictions, _ = predictor.predict_batch(box=BOX, hq_token_only=True)
    inputs = [tensor(module, "image", IMAGE, "UINT8"), tensor(module, "box", BOX, "FP32")]
    outputs = [module.InferRequestedOutput(name) for name in ("masks", "iou_predictions", "masks_rle")]
    parameters = {"hq_token_only": True}
    answer = connected.infer("samhq", inputs, outputs=outputs, parameters=parameters, request_id="a")
    np.testing.assert_array_equal(answer.as_numpy("masks"), masks)
    np.testing.assert_array_equal(answer.as_numpy("iou_predictions"), iou_predictions)
    assert answer.as_numpy("masks_rle")[0, 0].startswith(b'{"size": [60, 80]')
    default = connected.infer("samhq", inputs, parameters=parameters)
    np.testing.assert_array_equal(default.as_numpy("masks"), masks)


def test_refusals_arrive_as_the_clients_own_errors(client: tuple[Any, Any]) -> None:
    module, connected = client
    error = pytest.importorskip("tritonclient.utils").InferenceServerException
    image = tensor(module, "image", IMAGE, "UINT8")
    with pytest.raises(error, match="no prompt: give"):
        connected.infer("samhq", [image])
    with pytest.raises(error, match="unknown model 'other'"):
        connected.infer("other", [image])
    big = np.zeros((1000, 800, 3), np.uint8)
    with pytest.raises(error, match="larger"):
        connected.infer("samhq", [tensor(module, "image", big, "UINT8")])


def test_our_messages_have_the_fields_of_theirs() -> None:
    """Names, numbers and types; theirs has more, which are Triton's own."""
    from tritonclient.grpc import model_config_pb2, service_pb2

    for name, ours in MESSAGES.items():
        theirs = vars(service_pb2).get(name) or vars(model_config_pb2).get(name)
        theirs = theirs or getattr(service_pb2.RepositoryIndexResponse, name, None)
        theirs = theirs or getattr(service_pb2.ModelInferRequest, name, None)
        theirs = theirs or getattr(service_pb2.ModelInferResponse, name, None)
        theirs = theirs or getattr(service_pb2.ModelMetadataResponse, name)
        for field in ours.DESCRIPTOR.fields:
            other = theirs.DESCRIPTOR.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
