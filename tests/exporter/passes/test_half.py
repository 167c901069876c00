"""float16 and bfloat16 graphs: where the Casts are, what keeps its type, what is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from samhq_exporter.passes.half import to_half
from samhq_runtime.errors import GraphError
from tests.support.small_graphs import FLOAT, HALF, INT64, chain, model, node, op_types, run, value, weight


@pytest.mark.parametrize(
    ("islands", "half_io", "expected"),
    [
        ((), (), ["Cast", "Mul", "Softmax", "Mul", "Cast"]),
        ((), ("x", "y"), ["Mul", "Softmax", "Mul"]),
        ((), ("x",), ["Mul", "Softmax", "Mul", "Cast"]),
        (("Softmax",), ("x", "y"), ["Mul", "Cast", "Softmax", "Cast", "Mul"]),
        (("*/Softmax",), ("x", "y"), ["Mul", "Cast", "Softmax", "Cast", "Mul"]),
        (("/attn/",), ("x", "y"), ["Mul", "Cast", "Softmax", "Cast", "Mul"]),
        (("Softmax", "/last/"), (), ["Cast", "Mul", "Cast", "Softmax", "Mul"]),  # no Cast between two islands
        (("Softmax", "Mul"), (), ["Mul", "Softmax", "Mul"]),  # everything is an island
    ],
)
def test_fp16_casts_only_at_borders(islands: Sequence[str], half_io: Sequence[str], expected: list[str]) -> None:
    built = chain()
    reference = run(chain(), x=(x := np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)))
    to_half(built, compute="float16", islands=islands, half_io=half_io)
    assert op_types(built) == expected
    (source,), (result,) = built.graph.inputs, built.graph.outputs
    assert (source.name, result.name) == ("x", "y")
    assert source.dtype == (HALF if "x" in half_io else FLOAT)
    assert result.dtype == (HALF if "y" in half_io else FLOAT)
    got = run(built, x=x.astype(np.float16 if "x" in half_io else np.float32))
    np.testing.assert_allclose(got[0].astype(np.float32), reference[0], atol=2e-3)


def test_fp16_keeps_one_copy_of_a_weight_per_precision() -> None:
    built = chain()
    to_half(built, compute="float16", islands=(), half_io=("x", "y"))
    assert [v.dtype for v in built.graph.initializers.values()] == [HALF]
    built = chain()
    to_half(built, compute="float16", islands=("/last/",), half_io=("x", "y"))
    assert sorted(v.dtype for v in built.graph.initializers.values()) == [FLOAT, HALF]


@pytest.mark.parametrize("bad", [65520.0, -1e6, float("inf")])
def test_fp16_weight_overflow(bad: float) -> None:
    with pytest.raises(GraphError, match="weight w has values beyond float16"):
        to_half(chain(bad), compute="float16", islands=(), half_io=())
    to_half(chain(bad), compute="float16", islands=("Mul",), half_io=())  # in an island it may be as large as it likes


@pytest.mark.parametrize("stale", ["LayerNormalization", "/neck/", "softmax", "attn/Softmax", "*/neck/*"])
def test_fp16_stale_island(stale: str) -> None:
    with pytest.raises(GraphError, match=re.escape(f"{stale} match no node")):
        to_half(chain(), compute="float16", islands=("Softmax", stale), half_io=())


def test_fp16_leaves_integers_and_overridable_defaults_alone() -> None:
    x, token, index, y, a = (
        value("x"),
        weight("hq_token", np.ones((1, 4), np.float32)),
        value("i", ("k",), INT64),
        *(
            value("y"),
            value("a"),
        ),
    )
    built = model([node("Mul", [x, token], a), node("Gather", [a, index], y)], [x, index, token], [y], [token])
    to_half(built, compute="float16", islands=(), half_io=("x", "y"))
    assert op_types(built) == ["Cast", "Mul", "Gather"]
    assert (index.dtype, token.dtype) == (INT64, FLOAT)
    session = ort.InferenceSession(ir.to_proto(built).SerializeToString(), providers=["CPUExecutionProvider"])
    assert [v.name for v in session.get_overridable_initializers()] == ["hq_token"]


def test_fp16_retargets_casts_to_float() -> None:
    index, y = value("i", ("k",), INT64), value("y", ("k",))
    built = model([node("Cast", [index], y, to=int(FLOAT))], [index], [y])
    to_half(built, compute="float16", islands=(), half_io=("y",))
    assert run(built, i=np.array([3]))[0].dtype == np.float16
