"""bfloat16 on machines without it: float32 operators with the same rounding points."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from samhq_exporter.passes.emulate import emulate_bfloat16
from samhq_exporter.passes.half import to_half
from tests.support.small_graphs import chain, model, node, run, value, weight

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def rounded(array: np.ndarray) -> np.ndarray:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def bfloat16_values(built: ir.Model) -> list[str]:
    """Of all operators but Cast."""
    return [
        str(v.name)
        for n in built.graph
        if n.op_type != "Cast"
        for v in (*n.inputs, *n.outputs)
        if v is not None and v.dtype == ir.DataType.BFLOAT16
    ]


def test_rounds_where_the_graph_rounds() -> None:
    half = chain(1.01)
    to_half(half, compute="bfloat16", islands=("Softmax",))
    emulated = emulate_bfloat16(half)
    assert not bfloat16_values(emulated)
    assert bfloat16_values(half)  # a copy was changed
    w = rounded(np.full(4, 1.01, np.float32))
    first = rounded(rounded(X) * w)
    softmax = np.exp(first - first.max(-1, keepdims=True))
    softmax /= softmax.sum(-1, keepdims=True)
    np.testing.assert_allclose(run(emulated, x=X)[0], rounded(rounded(softmax) * w), rtol=2**-8)
    np.testing.assert_array_equal(run(emulated, x=X)[0], rounded(run(emulated, x=X)[0]))


def test_what_only_moves_is_not_rounded_again() -> None:
    x, a, b, y = (value(name) for name in "xaby")
    nodes = [
        node("Mul", [x, w := weight("w", np.full(4, 1.5, np.float32))], a, "/Mul"),
        node("Identity", [a], b, "/Identity"),
        node("Add", [b, w], y, "/Add"),
    ]
    half = model(nodes, [x], [y], [w])
    to_half(half, compute="bfloat16", islands=())
    emulated = emulate_bfloat16(half)
    (identity,) = (n for n in emulated.graph if n.op_type == "Identity")
    assert identity.inputs[0].producer().op_type == "Cast"  # the product's rounding
    assert [user.op_type for user, _ in identity.outputs[0].uses()] == ["Add"]
