"""Small requests that once took the server down or held it: each is answered in the protocol's words, and quickly.

A well-behaved client asks before and after every one, and gets the same right answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from tests.support.hostile import jpeg_of_scans
from tests.support.serving import BOX, IMAGE, INFER, Running, http_body, infer_http, png, running, send

SECONDS = 5.0  # for one refusal; they are decided from headers and counts, not by work


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Running]:
    with running(tiny_bundle) as server:
        yield server


def binary(inputs: dict[str, Any], **options: Any) -> tuple[bytes, dict[str, str]]:
    body, length = http_body(inputs, **options)
    return body, {"Inference-Header-Content-Length": str(length)}


def in_json(inputs: list[dict[str, Any]], **more: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps({"inputs": inputs, **more}).encode(), {}


def tensor(name: str, shape: list[Any], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": shape, "data": data}


def grey_line(length: int) -> bytes:
    """1 x length pixels; a few kilobytes."""
    return png(np.zeros((1, length, 3), np.uint8))


POINTS = {"point_coords": np.zeros((1, 30_000, 2), np.float32), "point_labels": np.ones((1, 30_000), np.int32)}
SMALL = {"image_bytes": png(IMAGE), "box": BOX}
MANY_NAMES = http_body(SMALL, [f"name{i}" for i in range(13_000)])
TEXT, LENGTH = http_body(SMALL)
ROWS = [
    pytest.param(
        *binary({"image_bytes": grey_line(1_000_000), "box": BOX}), 413, "pixels", id="a line of a million pixels"
    ),
    pytest.param(*binary({"image": IMAGE, **POINTS}), 413, "points", id="30,000 points"),
    pytest.param(
        MANY_NAMES[0], {"Inference-Header-Content-Length": str(MANY_NAMES[1])}, 400, "outputs", id="13,000 output names"
    ),
    pytest.param(*binary({"image_bytes": jpeg_of_scans(400, 256), "box": BOX}), 400, "scans", id="a JPEG of 400 scans"),
    pytest.param(*in_json([tensor("box", [1] * 65, [1])]), 400, "dimensions", id="65 dimensions"),
    pytest.param(*in_json([tensor("box", [0, 10**30], [])]), 400, "shape", id="a size beyond 64 bits"),
    pytest.param(*in_json([tensor("box", [0, 2**62], [])]), 400, "box", id="a size that overflows"),
    pytest.param(TEXT, {"Inference-Header-Content-Length": "9" * 5000}, 400, "Content-Length", id="5,000 digits"),
    pytest.param(TEXT, {"Content-Type": "text/plain"}, 415, "text/plain", id="what a web form sends"),
    pytest.param(TEXT, {"Origin": "https://example.org"}, 403, "--allow-origin", id="a web page"),
    pytest.param(TEXT, {"Host": "rebound.example.org"}, 403, "--allow-host", id="a name that was pointed here"),
]


def masks_of(server: Running) -> np.ndarray:
    masks: np.ndarray = infer_http(server, SMALL, ["masks"])["masks"]
    return masks


@pytest.mark.parametrize(("body", "headers", "status", "complaint"), ROWS)
def test_refused_in_the_protocols_words(
    server: Running, body: bytes, headers: dict[str, str], status: int, complaint: str
) -> None:
    before = masks_of(server)
    start = time.monotonic()
    got, _, answer = send(server.http_port, "POST", INFER, body, headers)
    assert time.monotonic() - start < SECONDS
    error = json.loads(answer)["error"]
    assert got == status, error
    assert complaint in error
    assert len(answer) < 16_000
    assert " at 0x" not in error
    assert send(server.http_port, "GET", "/v2/health/live")[0] == 200
    np.testing.assert_array_equal(masks_of(server), before)


def test_json_answers_have_a_limit_of_their_own(tiny_bundle: Bundle) -> None:
    """Masks as JSON numbers are a hundred times their size; the refusal names the ways that are not."""
    with running(tiny_bundle, max_json_values=1000) as server:
        request, length = http_body(SMALL, ["masks"])
        head = json.loads(request[:length])
        head["parameters"]["binary_data_output"] = False
        text = json.dumps(head).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        status, _, answer = send(server.http_port, "POST", INFER, text + request[length:], headers)
        assert status == 413
        assert "masks_rle" in json.loads(answer)["error"]
        assert infer_http(server, SMALL, ["masks"])["masks"].shape[-2:] == IMAGE.shape[:2]


def test_a_connection_that_is_answered_is_not_idle(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit for a request's head is not one for its answer."""
    predict = Predictor.predict_batch

    def slowly(self: Predictor, **prompts: Any) -> Any:
        time.sleep(3)
        return predict(self, **prompts)

    monkeypatch.setattr(Predictor, "predict_batch", slowly)
    with running(tiny_bundle, header_timeout_s=1) as server:
        assert masks_of(server).shape[-2:] == IMAGE.shape[:2]
