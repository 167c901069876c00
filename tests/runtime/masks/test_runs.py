"""Masks as runs, made of logits, cleaned and encoded, against the official packages and against whole pictures."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from samhq_runtime.contract import Float32, ModelFrame
from samhq_runtime.masks.regions import without_small_regions
from samhq_runtime.masks.rle import decode_rle, encode_counts, encode_rle
from samhq_runtime.masks.runs import Runs, find_runs
from samhq_runtime.masks.stability import upscale_runs
from samhq_runtime.masks.upscale import upscale
from tests.support.official import import_official


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    return Runs(mask.shape, *find_runs(np.pad(mask.T, ((0, 0), (0, 1)))))


def mask_of(runs: Runs) -> NDArray[np.bool_]:
    return decode_rle({"size": runs.hw, "counts": runs.counts().tolist()})


def smooth(rng: np.random.Generator, shape: tuple[int, int]) -> Float32:
    """Blobs of some pixels, positive and negative."""
    noise = rng.normal(size=shape)
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(-4, 5))
    return noise.astype(np.float32)


def masks(count: int) -> list[NDArray[np.bool_]]:
    rng = np.random.default_rng(7)
    shapes = [tuple(rng.integers(1, 50, 2)) for _ in range(count)]
    noisy = [rng.random(shape) < rng.choice([0, 0.05, 0.5, 0.9, 1]) for shape in shapes]
    return noisy + [smooth(rng, (40, 50)) > level for level in (-5, 0, 5)]


MASKS = masks(12)
each_mask = pytest.mark.parametrize("mask", MASKS, ids=[f"{i}-{m.mean():.0%}" for i, m in enumerate(MASKS)])


@each_mask
def test_runs_of_a_mask(mask: NDArray[np.bool_]) -> None:
    runs = runs_of(mask)
    assert encode_counts(runs.counts()) == json.loads(encode_rle(mask))["counts"]
    np.testing.assert_array_equal(mask_of(runs), mask)
    assert runs.area == mask.sum()
    boxes = import_official().utils.amg.batched_mask_to_box(torch.tensor(mask)[None])
    np.testing.assert_array_equal(runs.box(), boxes[0])
    np.testing.assert_array_equal(mask_of(runs.complement()), ~mask)
    padded = np.pad(mask, ((3, 5), (2, 0)))
    np.testing.assert_array_equal(mask_of(runs.moved(2, 3, padded.shape)), padded)


@each_mask
@pytest.mark.parametrize("min_area", [1, 3, 30, 5000])
def test_small_regions_are_those_of_opencv(mask: NDArray[np.bool_], min_area: int) -> None:
    amg = import_official().utils.amg
    filled, had_holes = amg.remove_small_regions(mask, min_area, mode="holes")
    expected, had_islands = amg.remove_small_regions(filled, min_area, mode="islands")
    got, changed = without_small_regions(runs_of(mask), min_area)
    np.testing.assert_array_equal(mask_of(got), expected)
    assert changed == (had_holes or had_islands)


@pytest.mark.parametrize("hw", [(64, 64), (130, 300), (1, 90), (200, 3)])
@pytest.mark.parametrize("squashed", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1.0, 40.0])
def test_logits_to_runs(hw: tuple[int, int], squashed: bool, offset: float) -> None:
    """As if all were upscaled, whether or not blocks are decided without it."""
    frame, logits = ModelFrame(128, squashed), smooth(np.random.default_rng(1), (32, 32)) * 3
    logits[:, :12] += 60  # where nothing needs to be upscaled
    whole = upscale(logits, hw, frame)
    runs, score = upscale_runs(logits, hw, frame, threshold=0.5, offset=offset)
    np.testing.assert_array_equal(mask_of(runs), whole > 0.5)
    expected = import_official().utils.amg.calculate_stability_score(torch.tensor(whole)[None], 0.5, offset)
    np.testing.assert_array_equal(score, expected[0].numpy())


def test_memory_is_that_of_some_columns() -> None:
    """An image of 100 megapixels, of whose mask not even the bits are there."""
    logits = smooth(np.random.default_rng(2), (256, 256)) - 20
    tracemalloc.start()
    try:
        runs, _ = upscale_runs(logits, (10_000, 10_000), ModelFrame(1024), threshold=0, offset=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < runs.area < 1e8
    assert peak < 12e6


@pytest.mark.parametrize("counts", ["", "!", "6", [5], [7, -1], [3, 4]])
def test_what_is_no_encoding_of_the_mask(counts: object) -> None:
    with pytest.raises(ValueError, match="counts of a mask of 2 x 5"):
        decode_rle({"size": [2, 5], "counts": counts})
