"""The measures of parity, the bounds of each precision, and what is said of results beyond them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samhq_exporter.precision.policy import PRECISIONS
from samhq_runtime.errors import BundleError
from samhq_runtime.parity import (
    ENGINE_TOLERANCES,
    EXPORT_TOLERANCES,
    Tolerance,
    breaches,
    mask_iou,
    relative_error,
    tolerance_of,
)

DOCS = Path(__file__).parents[2] / "docs"


def test_measures() -> None:
    reference = np.array([[[1.0, -1.0], [1.0, 0.0]]], np.float32)
    np.testing.assert_array_equal(mask_iou(reference, reference), [1])
    np.testing.assert_array_equal(mask_iou(-reference, reference), [0])
    np.testing.assert_array_equal(mask_iou(np.array([[[1.0, -1.0], [-1.0, 5.0]]], np.float32), reference), [0.5])
    np.testing.assert_array_equal(mask_iou(-np.ones((1, 2, 2)), -np.ones((1, 2, 2))), [1])
    assert relative_error(reference + 0.5, reference) == 0.25
    assert np.isnan(relative_error(reference * np.float32(np.nan), reference))


def test_tolerances_by_precision() -> None:
    """One for each precision there is, at export and for engines; none is made up for another."""
    assert EXPORT_TOLERANCES.keys() == ENGINE_TOLERANCES.keys() == set(PRECISIONS)
    for tolerances in (EXPORT_TOLERANCES, ENGINE_TOLERANCES):
        assert [tolerance_of(name, tolerances) for name in tolerances] == list(tolerances.values())
        with pytest.raises(BundleError, match=r"'int4': .* expected one of fp32, fp16, "):
            tolerance_of("int4", tolerances)


def test_breaches() -> None:
    """In words, and NaN never passes."""
    tolerance = Tolerance(relative=0.1, iou=0.9)
    assert not breaches(tolerance, mask_iou={"hq": 0.9}, relative={"x": 0.1}, against="pytorch")
    assert breaches(tolerance, mask_iou={"hq": 0.8, "sam_0": 1}, relative={"x": np.nan, "y": 0}, against="onnx") == [
        "mask hq against onnx: IoU 0.80000, at least 0.9 required",
        "x against onnx: relative error nan, at most 1e-01 allowed",
    ]
    assert len(breaches(tolerance, mask_iou={"hq": np.nan}, relative={}, against="onnx")) == 1


def test_the_page_states_the_tolerances_of_engines() -> None:
    page = (DOCS / "tensorrt.md").read_text(encoding="utf-8")
    for precision, tolerance in ENGINE_TOLERANCES.items():
        assert f"\n| {precision} | {tolerance.iou:g} | {tolerance.relative:g} |\n" in page
