"""Calls of programs written for the official `SamPredictor`, run on both: same ranks, same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from samhq_runtime import Bundle, Predictor
from samhq_runtime.errors import ImageError, PromptError
from tests.support.official_demo import official_predictor
from tests.support.parity import RELATIVE_ERROR
from tests.support.reference import photographs

IMAGE = photographs()["landscape 400 x 600"]
BOX, POINTS, LABELS = np.array([90, 60, 480, 340]), np.array([[240, 200], [400, 150]]), np.array([1, 0])
BOXES = np.array([[90, 60, 480, 340], [10, 10, 200, 250], [300, 100, 590, 390]])


@pytest.fixture(scope="module")
def official() -> Any:
    return official_predictor()


@pytest.fixture(scope="module")
def ours(demo_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(demo_bundle, threads=1) as predictor:
        yield predictor


def refined(predictor: Any) -> Any:
    """A second prediction from the best mask of the first, as in upstream's notebook."""
    _, scores, logits = predictor.predict(point_coords=POINTS[:1], point_labels=LABELS[:1], multimask_output=True)
    best = logits[np.argmax(scores), :, :]
    return predictor.predict(
        point_coords=POINTS,
        point_labels=LABELS,
        mask_input=best[None, :, :],
        multimask_output=False,
        return_logits=True,
    )


def batch_of_boxes(predictor: Any) -> Any:
    boxes = torch.tensor(BOXES, device=predictor.device)
    transformed = predictor.transform.apply_boxes_torch(boxes, IMAGE.shape[:2])
    return predictor.predict_torch(
        point_coords=None, point_labels=None, boxes=transformed, multimask_output=False, return_logits=True
    )


def batch_of_points(predictor: Any) -> Any:
    coords, labels = torch.tensor(np.stack([POINTS, POINTS + 30])), torch.tensor([[1, 0], [1, 1]])
    moved = torch.as_tensor(predictor.transform.apply_coords_torch(coords, IMAGE.shape[:2]), dtype=torch.float)
    return predictor.predict_torch(moved, labels, None, None, False, True)


def image_of_tensors(predictor: Any) -> Any:
    small = predictor.transform.apply_image(IMAGE)
    predictor.set_torch_image(torch.as_tensor(small).permute(2, 0, 1).contiguous()[None, :, :, :], IMAGE.shape[:2])
    return predictor.predict(box=BOX, return_logits=True)


def blue_first(predictor: Any) -> Any:
    predictor.set_image(np.ascontiguousarray(IMAGE[..., ::-1]), image_format="BGR")
    return predictor.predict(box=BOX, return_logits=True)


CALLS: dict[str, Callable[[Any], Any]] = {
    "a box (1,4)": lambda p: p.predict(None, None, box=BOX[None], multimask_output=False, return_logits=True),
    "a box (1,4), HQ alone": lambda p: p.predict(
        point_coords=None, point_labels=None, box=BOX[None], multimask_output=False, hq_token_only=True
    ),
    "a box (4,)": lambda p: p.predict(box=BOX, multimask_output=True, return_logits=True),
    "points and a box (1,4)": lambda p: p.predict(POINTS, LABELS, BOX[None], return_logits=True),
    "in upstream's order": lambda p: p.predict(POINTS, LABELS, BOX, None, False, True, True),
    "return_logits in its place": lambda p: p.predict(POINTS, LABELS, None, None, False, True),
    "booleans": lambda p: p.predict(POINTS, LABELS),
    "a mask of before": refined,
    "BGR": blue_first,
    "boxes in the model's frame": batch_of_boxes,
    "points in the model's frame": batch_of_points,
    "an image in the model's frame": image_of_tensors,
    "the embedding": lambda p: [p.get_image_embedding(), p.features],
    "its sizes": lambda p: [np.array(p.original_size), np.array(p.input_size)],
    "moved points": lambda p: [p.transform.apply_coords(POINTS, IMAGE.shape[:2])],
    "moved boxes": lambda p: [p.transform.apply_boxes(BOXES, IMAGE.shape[:2])],
    "whether there is an image": lambda p: [np.array([p.is_image_set, p.reset_image(), p.is_image_set])],
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_of_the_official_predictor(official: Any, ours: Predictor, call: str) -> None:
    for predictor in (official, ours):
        predictor.set_image(IMAGE)
    expected, got = ([np.asarray(part) for part in CALLS[call](predictor)] for predictor in (official, ours))
    for theirs, our in zip(expected, got, strict=True):
        assert our.shape == theirs.shape
        if theirs.dtype in (bool, object):
            assert np.mean(our == theirs) >= 0.9999
        else:
            span = max(float(np.ptp(theirs)), 1e-2)
            assert np.abs(our - theirs).max() <= RELATIVE_ERROR * span


REFUSALS: dict[str, tuple[Callable[[Predictor], object], type[Exception], str]] = {
    "another order of colours": (lambda p: p.set_image(IMAGE, "RGBA"), ImageError, "expected RGB or BGR"),
    "no image": (lambda p: (p.reset_image(), p.get_image_embedding()), PromptError, "no image set"),
    "no image either": (lambda p: (p.reset_image(), p.original_size), PromptError, "no image set"),
    "an image of another size": (
        lambda p: p.set_torch_image(np.zeros((1, 3, 9, 9)), IMAGE.shape[:2]),
        ImageError,
        r"got shape \(1, 3, 9, 9\)",
    ),
    "a box of three numbers": (
        lambda p: p.transform.apply_boxes([1, 2, 3], (9, 9)),
        PromptError,
        "expected \\(B, 4\\)",
    ),
    "points of three numbers": (lambda p: p.transform.apply_coords([[1, 2, 3]], (9, 9)), PromptError, "as x, y"),
    "a tensor that needs detach": (
        lambda p: p.predict_torch(None, None, torch.ones(1, 4, requires_grad=True)),
        PromptError,
        "detach",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(ours: Predictor, case: str) -> None:
    call, error, complaint = REFUSALS[case]
    ours.set_image(IMAGE)
    with pytest.raises(error, match=complaint):
        call(ours)
