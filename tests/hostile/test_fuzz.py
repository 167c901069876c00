"""A bounded, seeded part of what `python -m benchmarks hostile` does for as long as it is told to."""

from __future__ import annotations

import pytest

from benchmarks.measure.hostile import fuzz_server
from samhq_runtime import Bundle
from tests.support.hostile import server_process


@pytest.mark.parametrize("seed", [0])
def test_the_server(tiny_bundle: Bundle, seed: int) -> None:
    with server_process(tiny_bundle.path) as server:
        found = fuzz_server(server, tiny_bundle.path, range(seed, seed + 150))
        assert server.process.poll() is None
    assert not found["raw"], found
    assert not found["wrong"], found
    assert found["refused"] > 150
