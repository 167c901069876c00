"""Shape arithmetic of the tracer, and what must stay of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from samhq_exporter.passes.cleanup import clean_up
from samhq_exporter.passes.simplify_shapes import simplify_expands, simplify_reshapes
from tests.support.small_graphs import INT64, model, node, op_types, run, value, weight


def reshape(position: int, source: str = "x") -> ir.Model:
    """Reshape(x, [Shape(source)[position], -1, 2]), as the tracer writes it."""
    x, other, y = value("x", ("n", "m", 4)), value("other", ("n", "m", 4)), value("y", ("n", "k", 2))
    shape, size, row, target = (value(name, (1,), INT64) for name in ("s", "d", "r", "t"))
    constants = [
        weight("position", np.array(position)),
        weight("zero", np.array([0])),
        weight("rest", np.array([-1])),
        weight("two", np.array([2])),
    ]
    nodes = [
        node("Shape", [{"x": x, "other": other}[source]], shape),
        node("Gather", [shape, constants[0]], size),
        node("Unsqueeze", [size, constants[1]], row),
        node("Concat", [row, *constants[2:]], target, axis=0),
        node("Reshape", [x, target], y),
    ]
    return model(nodes, [x, other], [y], constants)


@pytest.mark.parametrize(
    ("position", "source", "remaining"),
    [(0, "x", ["Reshape"]), (1, "x", None), (0, "other", None)],
    ids=["own dimension", "another position", "another tensor"],
)
def test_simplify_reshapes(position: int, source: str, remaining: list[str] | None) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    built, before = reshape(position, source), run(reshape(position, source), x=x, other=x)
    untouched = op_types(built)
    simplify_reshapes(built)
    clean_up(built)
    assert op_types(built) == (remaining or untouched)
    np.testing.assert_array_equal(run(built, x=x, other=x)[0], before[0])


def expand(guarded: bool) -> ir.Model:
    """Expand(x, Where(shape == -1, 1, shape)), as the tracer writes it, or Expand(x, shape)."""
    x, shape, y = value("x", (1, 4)), value("shape", (2,), INT64), value("y")
    equal, where = value("e", (2,), ir.DataType.BOOL), value("w", (2,), INT64)
    minus, one = weight("minus", np.array(-1)), weight("one", np.array([1, 1]))
    guard = [node("Equal", [shape, minus], equal), node("Where", [equal, one, shape], where)]
    nodes = [*(guard if guarded else []), node("Expand", [x, where if guarded else shape], y)]
    return model(nodes, [x, shape], [y], [minus, one] if guarded else [])


@pytest.mark.parametrize("guarded", [True, False])
def test_simplify_expands(guarded: bool) -> None:
    built = expand(guarded)
    simplify_expands(built)
    clean_up(built)
    assert op_types(built) == ["Expand"]
    feeds = {"x": np.arange(4, dtype=np.float32)[None], "shape": np.array([3, 4])}
    np.testing.assert_array_equal(run(built, **feeds)[0], run(expand(guarded), **feeds)[0])
