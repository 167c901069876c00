"""Ranges measured inside the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samhq_exporter.precision.ranges import RangeRecorder
from samhq_runtime.errors import GraphError
from tests.support.small_graphs import largest_magnitudes, scaled


def test_extremes_over_all_runs(tmp_path: Path) -> None:
    model = scaled(gain=2.0, by=3.0)
    before = [node.name for node in model.graph]
    batches = np.array([[[1, 0, -3, 0]], [[2, 0, 0, 0]]])
    with RangeRecorder(model, tmp_path, sampled={"big"}) as recorder:
        outputs = [recorder.run({"x": batch.astype(np.float32)}) for batch in batches]
        assert recorder.largest == {"big": 6.0, "product": 18.0, "y": 9.0}
        assert sorted(recorder.magnitudes("big")) == [0] * 5 + [2, 4, 6]
    np.testing.assert_allclose(outputs[0]["y"], batches[0] * 3)
    assert outputs[0].keys() == {"y"}
    assert [node.name for node in model.graph] == before  # measured on a copy


def test_values_that_overflow_float32(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"big is inf in float32 already"):
        largest_magnitudes(scaled(gain=1e30), tmp_path, np.full((1, 4), 1e30))
