"""Nodes that float16 cannot hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samhq_exporter.precision.islands import FLOAT16_MAX, SAFETY, float16_islands, require_half_io
from samhq_exporter.precision.policy import PrecisionPolicy
from samhq_runtime.errors import GraphError
from tests.support.small_graphs import largest_magnitudes, scaled

HALF = PrecisionPolicy(compute="float16")


@pytest.mark.parametrize(
    ("gain", "weight", "expected"),
    [
        (1.0, 1.0, []),
        (0.99 * FLOAT16_MAX / SAFETY, 1.0, []),
        (1.01 * FLOAT16_MAX / SAFETY, 1.0, ["/up/Mul", "/linear/MatMul", "/down/Mul"]),
        (1.0, 2 * FLOAT16_MAX / SAFETY, ["/linear/MatMul", "/down/Mul"]),
        (0.05, 1e5, ["/linear/MatMul", "/down/Mul"]),  # the weight is too large, the product is not
        (1e3, 1e-7, ["/linear/MatMul"]),  # the weight drowns below float16's smallest value
        (1.0, 1e-5, ["/linear/MatMul"]),  # so does the product
    ],
)
def test_islands(tmp_path: Path, gain: float, weight: float, expected: list[str]) -> None:
    model = scaled(gain, weight)
    islands = float16_islands(model, largest_magnitudes(model, tmp_path, np.ones((1, 4))), HALF)
    assert list(islands) == expected
    assert all(np.isfinite(list(islands.values())))


def test_what_is_an_island_anyway_is_not_listed_again(tmp_path: Path) -> None:
    model = scaled(gain=1e5)
    policy = PrecisionPolicy(compute="float16", fp32_islands=("/linear/",), keep_fp32=("/down/",))
    assert list(float16_islands(model, largest_magnitudes(model, tmp_path, np.ones((1, 4))), policy)) == ["/up/Mul"]


def test_an_output_that_must_be_half(tmp_path: Path) -> None:
    model = scaled(by=1e4)
    measured = largest_magnitudes(model, tmp_path, np.ones((1, 4)))
    require_half_io(model, measured, frozenset())
    with pytest.raises(GraphError, match="y reaches 1e"):
        require_half_io(model, measured, frozenset({"y"}))
