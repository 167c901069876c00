"""Inputs and outputs of the served model over both protocols: the Predictor's masks, and refusals."""

from __future__ import annotations

import io
import json
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Predictor
from samhq_runtime.masks.rle import encode_rle
from tests.support.serving import BOX, CLIENTS, IMAGE, INFER, POINTS, Running, http_body, infer_grpc, png, send


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
    masks, iou_predictions, low_res_logits = predictor.predict_batch(**prompts, **options)
    for image in ({"image": IMAGE}, {"image_bytes": png(IMAGE)}):
        got = infer(server, {**image, **prompts}, ["masks", "iou_predictions", "low_res_logits"], **options)
        np.testing.assert_array_equal(got["masks"], masks)
        np.testing.assert_array_equal(got["iou_predictions"], iou_predictions)
        np.testing.assert_array_equal(got["low_res_logits"], low_res_logits)


@pytest.mark.parametrize("infer", CLIENTS)
def test_prompts_of_one_object_need_no_batch_dimension(server: Running, predictor: Predictor, infer: Any) -> None:
    inputs = {"image": IMAGE, "box": BOX[0], **{name: value[0] for name, value in POINTS.items()}}
    np.testing.assert_array_equal(infer(server, inputs)["masks"], predictor.predict_batch(box=BOX, **POINTS)[0])


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


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"box": BOX}, "expected exactly one of image_bytes"),
    ({"image": IMAGE, "image_bytes": b"x", "box": BOX}, "expected exactly one of image_bytes"),
    ({"image": IMAGE}, "no prompt: give"),
    ({"image": IMAGE, "box": BOX[:0]}, "no prompts: got an empty batch"),
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
