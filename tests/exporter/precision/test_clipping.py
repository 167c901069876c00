"""From drawn magnitudes to the scale of an activation."""

from __future__ import annotations

import numpy as np
import pytest

from samhq_exporter.passes.quantize import NUMBERS
from samhq_exporter.precision.clipping import CLIPPING, activation_scale

INT8 = NUMBERS["int8"]


def laplace() -> np.ndarray:
    magnitudes = np.abs(np.random.default_rng(1).laplace(size=50_000)).astype(np.float32)
    magnitudes[0] = 60.0  # one outlier, five times larger than the rest
    return magnitudes


@pytest.mark.parametrize("rule", CLIPPING)
def test_scales(rule: str) -> None:
    magnitudes = laplace()
    scale = activation_scale(magnitudes, 60.0, rule, INT8)
    assert 0.02 * 60 / 127 < scale <= np.float32(60 / 127)
    if rule == "minmax":
        assert scale == pytest.approx(60 / 127)
    else:
        assert scale < 0.9 * 60 / 127  # the outlier is clipped


def test_mse_is_the_best_of_all_by_its_own_measure() -> None:
    def error(scale: float) -> float:
        return float(np.mean((magnitudes - np.minimum(np.round(magnitudes / scale), 127) * scale) ** 2))

    magnitudes = laplace()
    errors = {rule: error(activation_scale(magnitudes, 60.0, rule, INT8)) for rule in CLIPPING}
    assert min(errors, key=errors.__getitem__) == "mse"


@pytest.mark.parametrize("rule", CLIPPING)
def test_an_activation_that_is_always_zero(rule: str) -> None:
    assert activation_scale(np.zeros(10, np.float32), 0.0, rule, INT8) > 0
