"""Both protocols against the Predictor, the protocol's own errors, and the server's limits."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime import Bundle, Predictor
from samhq_runtime.masks.rle import encode_rle
from samhq_runtime.serve.messages import MESSAGES
from tests.support.serving import (
    Running,
    grpc_call,
    grpc_request,
    http_body,
    infer_grpc,
    infer_http,
    running,
    send,
)

INFER = "/v2/models/samhq/infer"
BOX = np.array([[5.0, 6, 40, 50]], np.float32)
POINTS = {"point_coords": np.array([[[20.0, 30], [3, 4]]], np.float32), "point_labels": np.array([[1, 0]], np.int32)}
CLIENTS = [infer_grpc, infer_http]


def picture(seed: int, *, height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


IMAGE = picture(0)


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Running]:
    with running(tiny_bundle) as server:
        yield server


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        yield predictor


@pytest.mark.parametrize("infer", CLIENTS)
@pytest.mark.parametrize(
    ("prompts", "options"),
    [
        ({"box": BOX}, {}),
        ({"box": BOX.repeat(3, 0) + np.float32([[0], [1], [2]])}, {"multimask_output": False}),
        (POINTS, {"hq_token_only": True}),
        ({**POINTS, "box": BOX}, {"multimask_output": False}),
        ({"box": BOX, "mask_input": np.ones((1, 1, 32, 32), np.float32)}, {}),
    ],
)
def test_masks_are_those_of_the_predictor(
    server: Running, predictor: Predictor, infer: Any, prompts: dict[str, Any], options: dict[str, bool]
) -> None:
    masks, iou_predictions, low_res_logits = predictor.predict(**prompts, **options)
    for image in ({"image": IMAGE}, {"image_bytes": png(IMAGE)}):
        got = infer(server, {**image, **prompts}, ["masks", "iou_predictions", "low_res_logits"], **options)
        np.testing.assert_array_equal(got["masks"], masks)
        np.testing.assert_array_equal(got["iou_predictions"], iou_predictions)
        np.testing.assert_array_equal(got["low_res_logits"], low_res_logits)


@pytest.mark.parametrize("infer", CLIENTS)
def test_prompts_of_one_object_need_no_batch_dimension(server: Running, predictor: Predictor, infer: Any) -> None:
    inputs = {"image": IMAGE, "box": BOX[0], **{name: value[0] for name, value in POINTS.items()}}
    np.testing.assert_array_equal(infer(server, inputs)["masks"], predictor.predict(box=BOX, **POINTS)[0])


@pytest.mark.parametrize("infer", CLIENTS)
def test_every_form_of_a_mask_holds_the_same_mask(server: Running, infer: Any) -> None:
    names = ["masks_png", "masks_rle", "masks_packed", "original_hw", "masks"]
    got = infer(server, {"image": IMAGE, "box": BOX}, names)
    assert list(got) == names
    mask = got["masks"][0, 0]
    assert got["original_hw"].tolist() == [60, 80]
    np.testing.assert_array_equal(np.unpackbits(got["masks_packed"], axis=-1, count=80)[0, 0], mask)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(got["masks_png"][0, 0]))), mask * np.uint8(255))
    assert got["masks_rle"][0, 0] == encode_rle(mask)


def test_json_alone(server: Running, predictor: Predictor) -> None:
    """What curl can do: no bytes beside the JSON, an image file in base64."""
    got = infer_http(server, {"image": IMAGE, "box": BOX}, binary=False)
    np.testing.assert_array_equal(got["masks"], predictor.predict(box=BOX)[0])
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


def test_typed_contents_over_grpc(server: Running, predictor: Predictor) -> None:
    request = MESSAGES["ModelInferRequest"](model_name="samhq", model_version="1")
    image = request.inputs.add(name="image_bytes", datatype="BYTES", shape=[1])
    image.contents.bytes_contents.append(png(IMAGE))
    box = request.inputs.add(name="box", datatype="FP32", shape=[1, 4])
    box.contents.fp32_contents.extend(BOX.ravel().tolist())
    response = grpc_call(server.grpc_port, "ModelInfer", request)
    masks = np.frombuffer(response.raw_output_contents[0], bool).reshape(response.outputs[0].shape)
    np.testing.assert_array_equal(masks, predictor.predict(box=BOX)[0])


def test_health_and_metadata_over_http(server: Running) -> None:
    def get(path: str) -> tuple[int, Any]:
        status, _, body = send(server.http_port, "GET", path)
        return status, json.loads(body)

    assert get("/v2/health/live") == (200, {"live": True})
    assert get("/v2/health/ready") == (200, {"ready": True})
    assert get("/v2/models/samhq/ready")[0] == 200
    assert get("/v2/models/samhq/versions/1/ready")[0] == 200
    assert get("/v2")[1]["extensions"] == ["binary_tensor_data"]
    status, metadata = get("/v2/models/samhq")
    assert (status, metadata) == (200, server.service.metadata())
    shapes = {item["name"]: item["shape"] for item in metadata["inputs"] + metadata["outputs"]}
    assert shapes["mask_input"] == [-1, 1, 32, 32]
    assert get("/v2/models/other")[0] == 404
    assert get("/v2/models/samhq/versions/2/ready")[0] == 404
    assert get("/nothing") == (404, {"error": "GET /nothing: Not Found"})
    assert get(INFER)[0] == 405


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


def test_metrics(server: Running) -> None:
    infer_grpc(server, {"image": IMAGE, "box": BOX})
    status, headers, body = send(server.http_port, "GET", "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    assert float(lines['samhq_requests_total{outcome="ok",protocol="grpc"}']) >= 1
    assert float(lines["samhq_cached_bytes"]) > 0
    assert lines["samhq_requests_in_flight"] == "0.0"


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"box": BOX}, "expected exactly one of image_bytes"),
    ({"image": IMAGE, "image_bytes": b"x", "box": BOX}, "expected exactly one of image_bytes"),
    ({"image": IMAGE}, "no prompt: give"),
    ({"image": IMAGE, "boxes": BOX}, "unknown input boxes; expected image_bytes"),
    ({"image": IMAGE.astype(np.int16), "box": BOX}, "image: got datatype INT16, expected UINT8"),
    ({"image": IMAGE[..., 0], "box": BOX}, "image: got uint8 \\(60, 80\\)"),
    ({"image": IMAGE[:0], "box": BOX}, "at least one pixel"),
    ({"image_bytes": b"no image", "box": BOX}, "cannot be read as an image"),
    ({"image_bytes": png(IMAGE)[:200], "box": BOX}, "cannot be read as an image"),
    ({"image_bytes": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "box": BOX}, "cannot be read as an image"),
    ({"image": IMAGE, "box": BOX[:, :3]}, "box: got shape"),
    ({"image": IMAGE, "box": BOX * np.float32(np.nan)}, "NaN, infinity"),
    ({"image": IMAGE, "box": BOX[:, ::-1]}, "corners are swapped"),
    ({"image": IMAGE, "box": BOX > 0}, "box: got datatype BOOL, expected FP32"),
    ({"image": IMAGE, "point_coords": POINTS["point_coords"]}, "go together"),
    (
        {"image": IMAGE, **POINTS, "box": BOX.repeat(3, 0), "mask_input": np.zeros((2, 1, 32, 32), np.float32)},
        "numbers",
    ),
    ({"image": IMAGE, "box": BOX, "mask_input": np.zeros((1, 1, 9, 9), np.float32)}, "mask_input: got shape"),
]


@pytest.mark.parametrize(("inputs", "complaint"), MALFORMED)
def test_malformed_tensors_are_refused_by_both(server: Running, inputs: dict[str, Any], complaint: str) -> None:
    with pytest.raises(grpc.RpcError, match=complaint) as refusal:
        infer_grpc(server, inputs)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    body, length = http_body(inputs)
    status, _, answer = send(server.http_port, "POST", INFER, body, {"Inference-Header-Content-Length": str(length)})
    assert status == 400
    assert list(json.loads(answer)) == ["error"]


def test_a_bad_request_does_not_spoil_its_neighbours(server: Running, predictor: Predictor) -> None:
    expected = predictor.predict(box=BOX)[0]
    bad = {"image": IMAGE, "box": BOX[:, ::-1]}
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(infer_grpc, server, {"image": IMAGE, "box": BOX} if i % 2 else bad) for i in range(16)]
    for i, answer in enumerate(answers):
        if i % 2:
            np.testing.assert_array_equal(answer.result()["masks"], expected)
        else:
            assert isinstance(answer.exception(), grpc.RpcError)


def http_error(server: Running, body: bytes, **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, _, answer = send(server.http_port, "POST", INFER, body, named)
    return status, json.loads(answer)["error"]


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


@pytest.mark.parametrize(
    ("outputs", "parameters", "complaint"),
    [
        (["mask"], {}, "unknown output mask; expected masks"),
        ([], {"multimask": True}, "unknown parameter multimask; expected multimask_output"),
        (["masks", "masks"], {}, "named more than once: masks"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    server: Running, outputs: list[str], parameters: dict[str, bool], complaint: str
) -> None:
    with pytest.raises(grpc.RpcError, match=complaint):
        infer_grpc(server, {"image": IMAGE, "box": BOX}, outputs, **parameters)


@pytest.fixture(scope="module")
def narrow(tiny_bundle: Bundle) -> Iterator[Running]:
    limits = {"max_request_mb": 1, "max_prompts": 4, "max_image_mp": 1, "max_mask_mp": 2, "max_concurrency": 2}
    with running(tiny_bundle, timeout_s=1.0, grace_s=5.0, **limits) as server:
        yield server


BIG = np.zeros((1, 1, 600, 1000), np.float32)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"image": IMAGE, "box": BOX, "mask_input": BIG}, "larger than"),
        ({"image": IMAGE, "box": BOX.repeat(5, 0)}, "got 5 prompts, expected at most 4"),
        ({"image_bytes": png(np.zeros((1001, 1000, 3), np.uint8)), "box": BOX}, "got 1.0 megapixels"),
        ({"image_bytes": png(np.zeros((900, 1000, 3), np.uint8)), "box": BOX.repeat(3, 0)}, "3 of 0.9 megapixels"),
    ],
)
def test_what_is_too_large(narrow: Running, inputs: dict[str, Any], complaint: str) -> None:
    with pytest.raises(grpc.RpcError, match=complaint) as refusal:
        infer_grpc(narrow, inputs)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    body, length = http_body(inputs)
    status, message = http_error(narrow, body, Inference_Header_Content_Length=str(length))
    assert status == 413
    assert complaint in message


def test_a_body_of_unknown_length_is_bounded_too(narrow: Running) -> None:
    pieces = (b" " * 100_000 for _ in range(30))
    status, message = http_error(narrow, pieces)  # type: ignore[arg-type]
    assert status == 413
    assert "larger than" in message


@pytest.fixture
def slow(narrow: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes every decoder call of the `narrow` server take that long."""
    from samhq_runtime.predictor import Predictor as Slow

    predict = Slow.predict

    def slowly(seconds: float) -> None:
        def wait(self: Predictor, *arguments: Any, **options: Any) -> Any:
            time.sleep(seconds)
            return predict(self, *arguments, **options)

        monkeypatch.setattr(Slow, "predict", wait)

    return slowly


def test_more_requests_than_allowed_are_told_to_come_back(narrow: Running, slow: Callable[[float], None]) -> None:
    slow(0.3)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: outcome(narrow), range(6)))
    assert answers.count("ok") >= 2
    assert set(answers) == {"ok", grpc.StatusCode.UNAVAILABLE}
    assert outcome(narrow) == "ok"


def outcome(server: Running) -> object:
    try:
        infer_grpc(server, {"image": IMAGE, "box": BOX})
    except grpc.RpcError as e:
        return e.code()
    return "ok"


def test_a_request_that_takes_too_long_is_refused(narrow: Running, slow: Callable[[float], None]) -> None:
    slow(1.3)
    body, length = http_body({"image": IMAGE, "box": BOX})
    status, message = http_error(narrow, body, Inference_Header_Content_Length=str(length))
    assert (status, message) == (504, "not answered within 1 s")
    assert outcome(narrow) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_bug_is_an_internal_error_without_details(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*arguments: Any, **options: Any) -> None:
        raise KeyError("secret")

    with running(tiny_bundle) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Predictor, "predict", break_down)
            body, length = http_body({"image": IMAGE, "box": BOX})
            status, message = http_error(server, body, Inference_Header_Content_Length=str(length))
            assert (status, message) == (500, "internal error; the server's log has it")
            assert outcome(server) is grpc.StatusCode.INTERNAL
        assert "secret" in caplog.text
        assert outcome(server) == "ok"


def test_one_image_is_encoded_once_for_many_requests(server: Running) -> None:
    image = picture(9)
    before = encoded_images(server)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: infer_grpc(server, {"image": image, "box": BOX + i}), range(16)))
    assert encoded_images(server) == before + 1


def encoded_images(server: Running) -> float:
    text = server.service.metrics.text().decode()
    return float(next(line for line in text.splitlines() if line.startswith("samhq_images_encoded_total")).split()[1])


def test_concurrent_requests_get_their_own_answers(tiny_bundle: Bundle, predictor: Predictor) -> None:
    """Mixed images and prompts on two workers, with a cache that holds two of the five images."""
    images = [picture(seed, height=40 + 7 * seed) for seed in range(5)]
    boxes = [BOX + np.float32(i) for i in range(8)]
    expected = {}
    with Predictor(tiny_bundle, threads=1) as reference:
        for i, image in enumerate(images):
            reference.set_image(image)
            for j, box in enumerate(boxes):
                expected[i, j] = reference.predict(box=box)[2]
    pairs = [(k % 5, k % 8) for k in range(80)]
    with running(tiny_bundle, workers=2, cache_mb=1, max_batch=4) as server, ThreadPoolExecutor(16) as pool:

        def ask(k: int) -> Any:
            i, j = pairs[k]
            infer = CLIENTS[k % 2]
            return infer(server, {"image_bytes": png(images[i]), "box": boxes[j]}, ["low_res_logits"])

        for pair, got in zip(pairs, pool.map(ask, range(len(pairs))), strict=True):
            logits = got["low_res_logits"]
            np.testing.assert_allclose(logits, expected[pair], atol=1e-4 * np.abs(expected[pair]).max())


def test_a_client_that_gives_up_frees_its_place(narrow: Running, slow: Callable[[float], None]) -> None:
    slow(0.5)
    for _ in range(3):
        with pytest.raises(grpc.RpcError) as refusal:
            grpc_call(narrow.grpc_port, "ModelInfer", grpc_request({"image": IMAGE, "box": BOX}), timeout=0.1)
        assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.7)
    assert outcome(narrow) == "ok"


def test_draining_is_not_ready(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle) as server:
        server.service.start_draining()
        assert send(server.http_port, "GET", "/v2/health/ready")[0] == 503
        assert send(server.http_port, "GET", "/v2/health/live")[0] == 200
        assert not grpc_call(server.grpc_port, "ServerReady", MESSAGES["ServerReadyRequest"]()).ready
