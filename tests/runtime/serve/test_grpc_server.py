"""gRPC: typed contents, health and metadata."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Predictor
from samhq_runtime.serve.messages import MESSAGES
from tests.support.serving import BOX, IMAGE, Running, grpc_call, png


def test_typed_contents_over_grpc(server: Running, predictor: Predictor) -> None:
    request = MESSAGES["ModelInferRequest"](model_name="samhq", model_version="1")
    image = request.inputs.add(name="image_bytes", datatype="BYTES", shape=[1])
    image.contents.bytes_contents.append(png(IMAGE))
    box = request.inputs.add(name="box", datatype="FP32", shape=[1, 4])
    box.contents.fp32_contents.extend(BOX.ravel().tolist())
    response = grpc_call(server.grpc_port, "ModelInfer", request)
    masks = np.frombuffer(response.raw_output_contents[0], bool).reshape(response.outputs[0].shape)
    np.testing.assert_array_equal(masks, predictor.predict_batch(box=BOX)[0])


def test_health_and_metadata_over_grpc(server: Running) -> None:
    def call(method: str, **fields: str) -> Any:
        return grpc_call(server.grpc_port, method, MESSAGES[f"{method}Request"](**fields))

    assert call("ServerLive").live
    assert call("ServerReady").ready
    assert call("ModelReady", name="samhq").ready
    assert call("ServerMetadata").name == "samhq"
    metadata, expected = call("ModelMetadata", name="samhq", version="1"), server.service.metadata()
    assert [(i.name, i.datatype, list(i.shape)) for i in metadata.outputs] == [
        tuple(item.values())
        for item in expected["outputs"]  # type: ignore[attr-defined]
    ]
    with pytest.raises(grpc.RpcError) as refusal:
        call("ModelMetadata", name="other")
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND
