"""COCO run-length encodings, against cases written out by hand and against pycocotools."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samhq_runtime.contract import Array
from samhq_runtime.masks.rle import area_of, encode_rle


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        (["000", "000"], "6"),  # one run of six
        (["111", "111"], "06"),  # none of the background, then six of the object
        (["01", "01"], "22"),  # down the columns
        (["0" * 40], "X1"),  # 40 = 8 + 32, five bits a character, 32 marks that more follow
        (["10100"], "01102"[:4] + "1"),  # 0 1 1 1 2, the fourth as its difference to the second, the fifth to the third
    ],
)
def test_written_out(rows: list[str], counts: str) -> None:
    mask = np.array([[c == "1" for c in row] for row in rows])
    assert json.loads(encode_rle(mask)) == {"size": list(mask.shape), "counts": counts}


def random_mask(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 200, 2)
    if seed % 2:
        return rng.random((height, width)) < rng.choice([0, 0.02, 0.5, 1])
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2 + 1, width // 3 :] = True
    return mask


@pytest.mark.parametrize("seed", range(20))
def test_pycocotools_writes_the_same(seed: int) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="the reference for COCO's encoding")
    mask = random_mask(seed)
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert json.loads(encode_rle(mask)) == {"size": expected["size"], "counts": expected["counts"].decode()}


@pytest.mark.parametrize("seed", range(8))
def test_area(seed: int) -> None:
    mask = random_mask(seed)
    assert area_of(json.loads(encode_rle(mask))) == mask.sum()


def test_area_of_listed_runs() -> None:
    assert area_of({"size": [2, 3], "counts": [1, 2, 2, 1]}) == 3
    with pytest.raises(ValueError, match="not a run-length encoding of it"):
        area_of({"size": [2, 3], "counts": [1, 2]})
