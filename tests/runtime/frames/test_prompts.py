"""Prompts: what reaches the decoder for each kind, and every way to get them wrong."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from samhq_runtime.contract import SAM2, ModelSizes
from samhq_runtime.errors import PromptError
from samhq_runtime.frames.prompts import Prompts, encode_prompts

SIDE = 8  # of low_res_logits
SIZES = ModelSizes(image_size=200, embedding_size=SIDE // 4, embed_dim=8, token_masks=5)
NAN, INF = float("nan"), float("inf")
BOX = [10, 20, 30, 40]
ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


def encode(**prompts: Any) -> Prompts:
    """Prompts on an image of 50 x 100 pixels for a model of 200 x 200: coordinates double."""
    return encode_prompts(**prompts, original_hw=(50, 100), sizes=SIZES)


@pytest.mark.parametrize(
    ("prompts", "coords", "labels"),
    [
        ({"point_coords": [[5, 6]], "point_labels": [1]}, [[[10, 12], [0, 0]]], [[1, -1]]),
        ({"point_coords": [[5, 6], [7, 8]], "point_labels": [1, 0]}, [[[10, 12], [14, 16], [0, 0]]], [[1, 0, -1]]),
        ({"box": BOX}, [[[20, 40], [60, 80]]], [[2, 3]]),
        ({"box": [BOX, BOX]}, [[[20, 40], [60, 80]]] * 2, [[2, 3]] * 2),
        (
            {"point_coords": [[5, 6]], "point_labels": [0], "box": BOX},
            [[[10, 12], [20, 40], [60, 80]]],
            [[0, 2, 3]],
        ),
        (  # the same point for every box
            {"point_coords": [[5, 6]], "point_labels": [1], "box": [BOX, BOX]},
            [[[10, 12], [20, 40], [60, 80]]] * 2,
            [[1, 2, 3]] * 2,
        ),
        (
            {"point_coords": [[[5, 6]], [[7, 8]]], "point_labels": [[1], [0]]},
            [[[10, 12], [0, 0]], [[14, 16], [0, 0]]],
            [[1, -1], [0, -1]],
        ),
        ({"mask_input": np.ones((1, SIDE, SIDE))}, np.zeros((1, 0, 2)), np.zeros((1, 0))),
        ({"box": [5, 5, 5, 5]}, [[[10, 10], [10, 10]]], [[2, 3]]),  # a box of one pixel
        ({"point_coords": [[-5, 600]], "point_labels": [True]}, [[[-10, 1200], [0, 0]]], [[1, -1]]),
        ({"point_coords": [[5, 6]], "point_labels": [-1]}, [[[10, 12], [0, 0]]], [[-1, -1]]),  # padding of the caller's
        (  # objects with different numbers of points
            {"point_coords": [[[5, 6]], [[7, 8], [9, 10]]], "point_labels": [[1], [1, 0]]},
            [[[10, 12], [0, 0], [0, 0]], [[14, 16], [18, 20], [0, 0]]],
            [[1, -1, -1], [1, 0, -1]],
        ),
        (  # and a box for all of them, which stays behind each one's own
            {"point_coords": (np.array([[7, 8], [9, 10]]), [[5, 6]]), "point_labels": ([1, 0], [1]), "box": BOX},
            [[[14, 16], [18, 20], [20, 40], [60, 80]], [[10, 12], [20, 40], [60, 80], [0, 0]]],
            [[1, 0, 2, 3], [1, 2, 3, -1]],
        ),
        ({"box": []}, np.zeros((0, 2, 2)), np.zeros((0, 2))),
        ({"box": np.zeros((0, 4))}, np.zeros((0, 2, 2)), np.zeros((0, 2))),
        ({"point_coords": [], "point_labels": []}, np.zeros((0, 2, 2)), np.zeros((0, 2))),
        (
            {"point_coords": np.zeros((0, 3, 2)), "point_labels": np.zeros((0, 3))},
            np.zeros((0, 4, 2)),
            np.zeros((0, 4)),
        ),
        ({"box": torch.tensor(BOX)}, [[[20, 40], [60, 80]]], [[2, 3]]),
    ],
)
def test_coords_and_labels(prompts: dict[str, Any], coords: Any, labels: Any) -> None:
    got = encode(**prompts)
    np.testing.assert_array_equal(got.point_coords, coords)
    np.testing.assert_array_equal(got.point_labels, labels)
    assert got.point_coords.dtype == got.point_labels.dtype == np.float32
    assert len(got) == len(coords)


def test_split_leaves_out_what_fills() -> None:
    """Groups of neighbours with as many points, none beyond the size, in the order of the objects."""
    counts = [1, 1, 1, 3, 2, 2]
    points = [[[i, k] for k in range(count)] for i, count in enumerate(counts)]
    prompts = encode(point_coords=points, point_labels=[[1] * count for count in counts])
    groups = list(prompts.split(2))
    assert all(group.point_coords.flags.c_contiguous and group.point_labels.flags.c_contiguous for group in groups)
    assert [group.point_labels.tolist() for group in groups] == [
        [[1, -1]] * 2, [[1, -1]], [[1, 1, 1, -1]], [[1, 1, -1]] * 2,
    ]  # fmt: skip
    assert [group.point_coords[:, 0, 0].tolist() for group in groups] == [[0, 2], [4], [6], [8, 10]]


@pytest.mark.parametrize(
    ("shape", "count"),
    [((SIDE, SIDE), 1), ((1, SIDE, SIDE), 1), ((3, 1, SIDE, SIDE), 3), ((0, 1, SIDE, SIDE), 0)],
)
def test_mask_input_shapes(shape: tuple[int, ...], count: int) -> None:
    mask = np.random.default_rng(0).normal(size=shape)
    feeds = encode(mask_input=mask).feeds(np.eye(5, dtype=np.float32))
    assert feeds["mask_input"].shape == (count, 1, SIDE, SIDE)
    assert feeds["has_mask_input"] == [1.0]
    np.testing.assert_array_equal(feeds["mask_input"].ravel(), mask.astype(np.float32).ravel())
    boxes = [BOX] * (3 if count else 0)
    assert len(encode(mask_input=mask, box=boxes)) == len(boxes)


def test_no_mask_input_is_zeros_that_do_not_count() -> None:
    feeds = encode(box=BOX).feeds(np.eye(5, dtype=np.float32))
    assert feeds["mask_input"].shape == (1, 1, SIDE, SIDE)
    assert not feeds["mask_input"].any()
    assert feeds["has_mask_input"] == [0.0]


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        ({}, "no prompt"),
        ({"point_coords": [[5, 6]]}, "go together"),
        ({"point_labels": [1]}, "go together"),
        ({"point_coords": np.zeros((0, 2)), "point_labels": np.zeros(0)}, "N >= 1"),
        ({"point_coords": np.zeros((2, 0, 2)), "point_labels": np.zeros((2, 0))}, "N >= 1"),
        ({"box": BOX, "point_coords": np.zeros((0, 1, 2)), "point_labels": np.zeros((0, 1))}, "same number"),
        ({"box": [], "mask_input": np.zeros((SIDE, SIDE))}, "same number"),
        ({"point_coords": [5, 6], "point_labels": [1]}, "expected"),
        ({"point_coords": [5, 6], "point_labels": 1}, "expected"),
        ({"point_coords": [[5, 6, 7]], "point_labels": [1]}, "expected"),
        ({"point_coords": [[5, 6]], "point_labels": [1, 0]}, "expected"),
        ({"point_coords": [[[5, 6]]], "point_labels": [1]}, "expected"),
        ({"point_coords": [[5, 6]], "point_labels": [2]}, "expected 1"),
        ({"point_coords": [[5, 6]], "point_labels": [-2]}, "expected 1"),
        ({"point_coords": [[5, 6]], "point_labels": [0.5]}, "expected 1"),
        ({"point_coords": [[NAN, 6]], "point_labels": [1]}, "NaN"),
        ({"point_coords": [[5, 6]], "point_labels": [NAN]}, "NaN"),
        ({"point_coords": [["five", 6]], "point_labels": [1]}, "not numbers"),
        ({"point_coords": [[5, 6], [7]], "point_labels": [1, 1]}, "not numbers"),
        ({"box": [1, 2, 3]}, "box"),
        ({"box": np.zeros((0, 3))}, "box"),
        ({"point_coords": [[[5, 6]], []], "point_labels": [[1], []]}, "object 1: .*N >= 1"),
        ({"point_coords": [[[5, 6]], [[7, 8], [9, 10]]], "point_labels": [[1], [1]]}, "object 1: .*expected"),
        ({"point_coords": [[[5, 6]], [[7, 8], [NAN, 1]]], "point_labels": [[1], [1, 1]]}, "object 1: .*NaN"),
        ({"point_coords": [[[5, 6]], [[7, 8], [9, 10]]], "point_labels": [1, 1]}, "object 0: .*expected"),
        ({"point_coords": [[[5, 6]], [[7, 8], [9, 10]]], "point_labels": [[1]]}, "list of 2 lists"),
        ({"point_coords": [[[5, 6]], [[7, 8], [9, 10]]], "point_labels": 1}, "list of 2 lists"),
        ({"point_coords": [[[5, 6]], [[7, 8], [9, 10]]]}, "go together"),
        (
            {"point_coords": [[[5, 6]], [[7, 8], [9, 10]]], "point_labels": [[1], [1, 1]], "box": [BOX] * 3},
            "same number",
        ),
        ({"box": np.zeros((1, 1, 4))}, "box"),
        ({"box": 5}, "box"),
        ({"box": [1, 2, INF, 4]}, "infinity"),
        ({"box": [1, 2, 3, 1e300]}, "beyond float32"),
        ({"box": [30, 20, 10, 40]}, "swapped"),
        ({"box": [10, 40, 30, 20]}, "swapped"),
        ({"box": [BOX, [30, 20, 10, 40]]}, "swapped"),
        ({"box": object()}, "not numbers"),
        ({"box": torch.ones(4, requires_grad=True)}, r"box: not numbers .*tensor\.detach\(\)\.cpu\(\)"),
        ({"box": [torch.ones(4, requires_grad=True)] * 2}, r"box: not numbers .*tensor\.detach\(\)\.cpu\(\)"),
        ({"box": torch.ones(4, dtype=torch.bfloat16)}, r"box: not numbers .*\.float\(\)\.numpy\(\)"),
        ({"box": torch.ones(4, device="meta")}, r"box: not numbers .*\.cpu\(\)"),
        ({"box": np.ma.masked_equal(BOX, 40)}, "masked array"),
        ({"box": [np.ma.masked_equal(BOX, 40), BOX]}, "masked array"),
        ({"box": ["10", "20", "30", "40"]}, "not numbers"),
        ({"box": [b"10", b"20", b"30", b"40"]}, "not numbers"),
        ({"box": b"1234"}, "not numbers"),
        ({"box": [10, 20, 30, 10**400]}, "not numbers"),
        ({"box": [Fraction(1, 2)] * 4}, "not numbers"),
        ({"box": [1j, 2, 3, 4]}, "not numbers"),
        ({"box": np.array(["2020-01-01"] * 4, "datetime64[D]")}, "not numbers"),
        ({"box": [None, 2, 3, 4]}, "not numbers"),
        ({"box": ENDLESS}, "not numbers"),
        ({"mask_input": np.zeros((SIDE, SIDE + 1))}, "mask_input"),
        ({"mask_input": np.zeros((2, SIDE, SIDE))}, "mask_input"),
        ({"mask_input": np.zeros((1, 1, 1, SIDE, SIDE))}, "mask_input"),
        ({"mask_input": np.zeros(SIDE)}, "mask_input"),
        ({"mask_input": np.full((SIDE, SIDE), NAN)}, "NaN"),
        ({"mask_input": np.full((SIDE, SIDE), 1e39)}, "beyond float32"),
        ({"box": [BOX] * 2, "mask_input": np.zeros((3, 1, SIDE, SIDE))}, "same number"),
        ({"box": [BOX] * 2, "point_coords": [[[5, 6]]] * 3, "point_labels": [[1]] * 3}, "same number"),
    ],
)
def test_refused(prompts: dict[str, Any], complaint: str) -> None:
    with pytest.raises(PromptError, match=complaint):
        encode(**prompts)


@pytest.mark.parametrize(
    ("prompts", "coords", "labels"),
    [
        ({"point_coords": [[5, 6]], "point_labels": [1]}, [[[10, 24], [0, 0]]], [[1, -1]]),
        ({"box": BOX}, [[[20, 80], [60, 160], [0, 0]]], [[2, 3, -1]]),
        (
            {"box": BOX, "point_coords": [[5, 6]], "point_labels": [0]},
            [[[10, 24], [20, 80], [60, 160], [0, 0]]],
            [[0, 2, 3, -1]],
        ),
        ({"mask_input": np.zeros((1, SIDE, SIDE))}, np.zeros((1, 0, 2)), np.zeros((1, 0))),
    ],
)
def test_sam2_squashes_and_pads_boxes_too(prompts: dict[str, Any], coords: Any, labels: Any) -> None:
    sizes = dataclasses.replace(SIZES, family=SAM2)
    got = encode_prompts(**prompts, original_hw=(50, 100), sizes=sizes)
    np.testing.assert_allclose(got.point_coords, coords, rtol=1e-6)
    np.testing.assert_array_equal(got.point_labels, labels)
