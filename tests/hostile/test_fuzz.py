"""A bounded, seeded part of what `python -m benchmarks hostile` does for as long as it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.measure.hostile import fuzz_server
from samhq_runtime import Bundle, Predictor
from tests.support.fuzz import run, targets_of
from tests.support.hostile import server_process
from tests.support.serving import IMAGE

SEEDS = range(100)


def test_in_this_process(tiny_bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        targets = targets_of(tiny_bundle, tiny_checkpoint, tmp_path, predictor)
        weights = run({"weights": targets.pop("weights")}, SEEDS[:40])  # each is a file of many tensors
        outcome = run(targets, SEEDS)
    assert not weights.raw + outcome.raw, "\n".join(weights.raw + outcome.raw)
    assert outcome.refused > outcome.cases // 4


@pytest.mark.parametrize("seed", [0])
def test_the_server(tiny_bundle: Bundle, seed: int) -> None:
    with server_process(tiny_bundle.path) as server:
        found = fuzz_server(server, tiny_bundle.path, range(seed, seed + 150))
        assert server.process.poll() is None
    assert not found["raw"], found
    assert not found["wrong"], found
    assert found["refused"] > 150
