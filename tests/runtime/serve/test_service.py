"""One model for many clients: each gets its own answer; limits, lateness and bugs are told; the end is orderly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import build_parser
from samhq_runtime.commands.options import provider_options
from samhq_runtime.errors import ConfigError
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.options import ServeOptions
from samhq_runtime.serve.service import Service
from tests.support.serving import (
    BOX,
    CLIENTS,
    IMAGE,
    Running,
    grpc_call,
    grpc_request,
    http_body,
    http_error,
    infer_grpc,
    outcome,
    picture,
    png,
    running,
    send,
)


def test_a_bad_request_does_not_spoil_its_neighbours(server: Running, predictor: Predictor) -> None:
    expected = predictor.predict_batch(box=BOX)[0]
    bad = {"image": IMAGE, "box": BOX[:, ::-1]}
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(infer_grpc, server, {"image": IMAGE, "box": BOX} if i % 2 else bad) for i in range(16)]
    for i, answer in enumerate(answers):
        if i % 2:
            np.testing.assert_array_equal(answer.result()["masks"], expected)
        else:
            assert isinstance(answer.exception(), grpc.RpcError)


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

    predict = Slow.predict_batch

    def slowly(seconds: float) -> None:
        def wait(self: Predictor, *arguments: Any, **options: Any) -> Any:
            time.sleep(seconds)
            return predict(self, *arguments, **options)

        monkeypatch.setattr(Slow, "predict_batch", wait)

    return slowly


def test_more_requests_than_allowed_are_told_to_come_back(narrow: Running, slow: Callable[[float], None]) -> None:
    slow(0.3)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: outcome(narrow), range(6)))
    assert answers.count("ok") >= 2
    assert set(answers) == {"ok", grpc.StatusCode.UNAVAILABLE}
    assert outcome(narrow) == "ok"


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
            patch.setattr(Predictor, "predict_batch", break_down)
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
                expected[i, j] = reference.predict_batch(box=box)[2]
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


def test_white_of_images_of_sixteen_bits(tiny_bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    """A setting of the server; without it dark images are told of once, in its log."""
    grey = picture(7)[..., 0].astype(np.uint16)
    requests = [{"image_bytes": png(grey * scale), "box": BOX} for scale in (16, 15)]
    with running(tiny_bundle, white_point=255 * 16) as server:
        expected = infer_grpc(server, {"image": np.repeat(grey[..., None].astype(np.uint8), 3, 2), "box": BOX})
        np.testing.assert_array_equal(infer_grpc(server, requests[0])["masks"], expected["masks"])
    assert "16 bits" not in capfd.readouterr().err
    with running(tiny_bundle) as server:
        answers = [infer_grpc(server, request)["iou_predictions"] for request in requests]
    assert all(np.abs(answer - expected["iou_predictions"]).max() > 0 for answer in answers)
    said = capfd.readouterr().err
    assert said.count("WARNING samhq_runtime.frames.image_files: image: 16 bits a pixel, of which the brightest") == 1


def test_draining_is_not_ready(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle) as server:
        server.service.start_draining()
        assert send(server.http_port, "GET", "/v2/health/ready")[0] == 503
        assert send(server.http_port, "GET", "/v2/health/live")[0] == 200
        assert not grpc_call(server.grpc_port, "ServerReady", MESSAGES["ServerReadyRequest"]()).ready


def test_provider_options_reach_the_sessions(tiny_bundle: Bundle) -> None:
    parsed = build_parser().parse_args(["serve", "bundle", "--provider-option", "cuda.device_id=1"])
    given = {"cuda": {"device_id": "1"}}
    assert provider_options(parsed) == given
    assert hash(ServeOptions(provider_options=given)) == hash(ServeOptions())  # Ray keeps servers by their options
    with pytest.raises(ConfigError, match="cuda"):
        Service(tiny_bundle, ServeOptions(provider_options=given))
