"""Passes on graphs of a few nodes, written by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from samhq_exporter.passes.cleanup import clean_up
from samhq_exporter.passes.half import to_half
from samhq_exporter.passes.rules import FORBIDDEN, check_rules
from samhq_exporter.passes.simplify_shapes import simplify_expands, simplify_reshapes
from samhq_exporter.precision.forms import apply_policy
from samhq_exporter.precision.policy import PrecisionPolicy
from samhq_runtime.errors import GraphError

FLOAT, HALF, INT64 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64


def value(name: str, shape: Sequence[int | str] = ("n", 4), dtype: ir.DataType = FLOAT) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def weight(name: str, array: NDArray[np.generic]) -> ir.Value:
    const = ir.tensor(array, name=name)
    return ir.Value(name=name, type=ir.TensorType(const.dtype), shape=const.shape, const_value=const)


def node(op_type: str, inputs: Sequence[ir.Value], output: ir.Value, name: str = "", **attributes: int) -> ir.Node:
    return ir.node(op_type, inputs, attributes, outputs=[output], name=name or f"/{op_type}")


def model(
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    weights: Sequence[ir.Value] = (),
    name: str = "mask_decoder",
) -> ir.Model:
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=weights, opset_imports={"": 20}, name=name)
    return ir.Model(graph, ir_version=10)


def run(built: ir.Model, **feeds: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    session = ort.InferenceSession(ir.to_proto(built).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def chain(middle: float = 2.0) -> ir.Model:
    """x -> Mul by a weight -> Softmax -> Mul by the same weight -> y."""
    x, y, a, b = value("x"), value("y"), value("a"), value("b")
    w = weight("w", np.full(4, middle, np.float32))
    nodes = [
        node("Mul", [x, w], a, "/first/Mul"),
        node("Softmax", [a], b, "/attn/Softmax", axis=-1),
        node("Mul", [b, w], y, "/last/Mul"),
    ]
    return model(nodes, [x], [y], [w])


def op_types(built: ir.Model) -> list[str]:
    return [n.op_type for n in built.graph]


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


def test_clean_up_folds_constants_but_not_the_token_fusion() -> None:
    x, y = value("x"), value("y")
    a, b, c = value("a", (4,)), value("b", (4,)), value("c", (4,))
    v, w = (weight(name, np.full(4, number, np.float32)) for name, number in (("v", 2), ("w", 3)))
    nodes = [
        node("Mul", [v, w], a, "/token_fusion/Mul"),
        node("Add", [v, w], b, "/elsewhere/Add"),
        node("Mul", [x, a], c, "/Mul_1"),
        node("Add", [c, b], y, "/Add_1"),
    ]
    built = model(nodes, [x], [y], [v, w])
    clean_up(built)
    assert [n.name for n in built.graph] == ["/token_fusion/Mul", "/Mul_1", "/Add_1"]
    np.testing.assert_array_equal(run(built, x=np.ones((1, 4), np.float32))[0], np.full((1, 4), 11))


def fusion(op_type: str = "Mul", names: Sequence[str] = ("sam_token", "hq_token"), used: bool = True) -> ir.Model:
    x, y, fused = value("x"), value("y"), value("fused", (1, 4))
    tokens = [weight(name, np.full((1, 4), 2 + i, np.float32)) for i, name in enumerate(names)]
    nodes = [
        node(op_type, tokens, fused, f"/token_fusion/{op_type}"),
        node("Add", [x, fused if used else tokens[1]], y, "/Add"),
    ]
    return model(nodes, [x, tokens[1]], [y], tokens)


BROKEN_FUSIONS = {
    "another operator": ({"op_type": "Add"}, "node /token_fusion/Mul is missing"),
    "twice the same token": ({"names": ("hq_token_2", "hq_token")}, "expected the two tokens"),
    "not the tokens": ({"names": ("sam_token", "x_token")}, "expected the two tokens"),
    "result unused": ({"used": False}, "is not used"),
}


@pytest.mark.parametrize("case", BROKEN_FUSIONS)
def test_rules_on_a_broken_fusion(case: str) -> None:
    change, complaint = BROKEN_FUSIONS[case]
    with pytest.raises(GraphError, match=complaint):
        check_rules(fusion(**change), token_fusion="hadamard")  # type: ignore[arg-type]


def test_rules_want_initializers_as_operands() -> None:
    built = fusion()
    del built.graph.initializers["hq_token"]
    with pytest.raises(GraphError, match="expected the two tokens"):
        check_rules(built, token_fusion="hadamard")


@pytest.mark.parametrize(
    ("built", "token_fusion"),
    [(fusion(), "hadamard"), (fusion("Add"), "sum"), (chain(), "independent")],
)
def test_rules_are_met(built: ir.Model, token_fusion: str) -> None:
    check_rules(built, token_fusion=token_fusion)


@pytest.mark.parametrize("op_type", sorted(FORBIDDEN))
def test_rules_on_forbidden_operators(op_type: str) -> None:
    x, y = value("x"), value("y")
    with pytest.raises(GraphError, match=f"contains {op_type}"):
        check_rules(model([node(op_type, [x], y)], [x], [y]), token_fusion="independent")


@pytest.mark.parametrize("token_fusion", ["sum", "hadamard"])
def test_a_graph_that_lost_its_fusion_does_not_pass(token_fusion: str) -> None:
    with pytest.raises(GraphError, match="/token_fusion/"):
        check_rules(chain(), token_fusion=token_fusion)


def test_unknown_compute_type() -> None:
    policy = PrecisionPolicy(compute="float8")
    with pytest.raises(GraphError, match="no pass for compute type float8"):
        apply_policy(chain(), policy=policy, half_io=frozenset())
