"""Prompts drawn from masks, at their edges."""

from __future__ import annotations

import pytest
import torch

from samhq_exporter.training.hq_stage import prompt_groups
from samhq_exporter.training.prompts import near_misses


def masks_of(*windows: tuple[slice, slice]) -> torch.Tensor:
    masks = torch.zeros(len(windows), 8, 8, dtype=torch.bool)
    for mask, window in zip(masks, windows, strict=True):
        mask[window] = True
    return masks


WHOLE = (slice(None), slice(None))
SQUARE = (slice(2, 5), slice(2, 5))


def test_near_misses() -> None:
    """In the box of an L, anywhere outside of a square, and a foreground point where there is no background."""
    masks = masks_of(SQUARE, SQUARE, WHOLE)
    masks[0, 2:4, 3:5] = False
    prompts = near_misses(masks, generator=torch.Generator().manual_seed(0))
    x, y = prompts.coords[:, 0].long().unbind(-1)
    assert 3 <= x[0] < 5
    assert 2 <= y[0] < 4
    assert not masks[1, y[1], x[1]]
    assert prompts.labels.tolist() == [[0.0], [0.0], [1.0]]


@pytest.mark.parametrize(("objects", "boxed"), [(2, {1}), (3, {2}), (24, {16}), (1, {0, 1})])
def test_two_thirds_have_boxes(objects: int, boxed: set[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    found = set()
    for _ in range(20):
        groups = prompt_groups(masks_of(*[SQUARE] * objects), generator)
        assert sorted(torch.cat([chosen for chosen, _ in groups]).tolist()) == list(range(objects))
        assert all(len(chosen) == len(prompts.coords) == len(prompts.labels) > 0 for chosen, prompts in groups)
        found.add(sum(len(chosen) for chosen, prompts in groups if (prompts.labels == 2).any()))
    assert found == boxed
