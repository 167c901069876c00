"""Measured ranges and the islands that follow from them, on graphs of a few nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from samhq_exporter.precision.measured import FLOAT16_MAX, SAFETY, decisions, float16_islands, require_half_io
from samhq_exporter.precision.policy import PrecisionPolicy
from samhq_exporter.precision.ranges import RangeRecorder
from samhq_exporter.precision.report import format_report
from samhq_runtime.errors import GraphError

HALF = PrecisionPolicy(compute="float16")


def chain(gain: float = 1.0, weight: float = 1.0) -> ir.Model:
    """x -> Mul by `gain` -> MatMul with `weight` * identity -> Mul by 1 / gain -> y."""
    x, big, product, y = (
        ir.Value(name=n, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(("n", 4)))
        for n in ("x", "big", "product", "y")
    )
    constants = {
        "gain": np.float32(gain),
        "weight": weight * np.eye(4, dtype=np.float32),
        "back": np.float32(1 / gain),
    }
    values = {
        name: ir.Value(
            name=name,
            const_value=ir.tensor(np.asarray(array), name=name),
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape(np.shape(array)),
        )
        for name, array in constants.items()
    }
    nodes = [
        ir.node("Mul", [x, values["gain"]], outputs=[big], name="/up/Mul"),
        ir.node("MatMul", [big, values["weight"]], outputs=[product], name="/linear/MatMul"),
        ir.node("Mul", [product, values["back"]], outputs=[y], name="/down/Mul"),
    ]
    graph = ir.Graph(
        [x], [y], nodes=nodes, initializers=[*values.values()], opset_imports={"": 20}, name="image_encoder"
    )
    return ir.Model(graph, ir_version=10)


def largest(model: ir.Model, folder: Path, *batches: np.ndarray) -> dict[str, float]:
    with RangeRecorder(model, folder) as recorder:
        for batch in batches:
            recorder.run({"x": batch.astype(np.float32)})
        return recorder.largest


def test_extremes_over_all_runs(tmp_path: Path) -> None:
    model = chain(gain=2.0, weight=3.0)
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
        largest(chain(gain=1e30), tmp_path, np.full((1, 4), 1e30))


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
    model = chain(gain, weight)
    islands = float16_islands(model, largest(model, tmp_path, np.ones((1, 4))), HALF)
    assert list(islands) == expected
    assert all(np.isfinite(list(islands.values())))


def test_what_is_an_island_anyway_is_not_listed_again(tmp_path: Path) -> None:
    model = chain(gain=1e5)
    policy = PrecisionPolicy(compute="float16", fp32_islands=("/linear/",), keep_fp32=("/down/",))
    assert list(float16_islands(model, largest(model, tmp_path, np.ones((1, 4))), policy)) == ["/up/Mul"]


def test_an_output_that_must_be_half(tmp_path: Path) -> None:
    model = chain(weight=1e4)
    measured = largest(model, tmp_path, np.ones((1, 4)))
    require_half_io(model, measured, frozenset())
    with pytest.raises(GraphError, match="y reaches 1e"):
        require_half_io(model, measured, frozenset({"y"}))


def test_report(tmp_path: Path) -> None:
    model = chain(gain=1e5)
    policy = PrecisionPolicy(
        compute="float16", fp32_islands=("/linear/",), keep_fp32=("*down*",), measured_islands={"/up/Mul": 1e5}
    )
    rows = list(decisions(model, largest(model, tmp_path, np.ones((1, 4))), policy))
    assert [(r.node, r.precision, r.reason) for r in rows] == [
        ("/up/Mul", "float32", "measured"),
        ("/linear/MatMul", "float32", "stated /linear/"),
        ("/down/Mul", "float32", "--keep-fp32 *down*"),
    ]
    text = format_report(rows)
    assert "1e+05" in text
    assert "0.655x" in text
