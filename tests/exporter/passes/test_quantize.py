"""The quantizing pass on graphs of a few nodes, and which products are quantized."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from samhq_exporter.passes.quantize import quantization_of, quantize, quantized_weight
from samhq_exporter.precision.measuring import quantizable_nodes
from samhq_runtime.errors import GraphError

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(32, 8)).astype(np.float32) * np.logspace(-3, 2, 8, dtype=np.float32)
X = RNG.normal(size=(16, 32)).astype(np.float32)


def value(name: str, shape: Sequence[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(shape))


def linear_model() -> ir.Model:
    """Two products of the same activation by constants, one of two activations."""
    x, square, a, b, c = (value(n, ("n", 32)) for n in ("x", "square", "a", "b", "c"))
    const = ir.tensor(WEIGHT, name="w")
    w = ir.Value(name="w", type=ir.TensorType(ir.DataType.FLOAT), shape=const.shape, const_value=const)
    nodes = [
        ir.node("MatMul", [x, w], outputs=[a], name="/blocks.0/q/MatMul"),
        ir.node("MatMul", [x, w], outputs=[b], name="/blocks.0/k/MatMul"),
        ir.node("MatMul", [x, square], outputs=[c], name="/blocks.0/attn/MatMul"),
    ]
    graph = ir.Graph(
        [x, square], [a, b, c], nodes=nodes, initializers=[w], opset_imports={"": 20}, name="image_encoder"
    )
    return ir.Model(graph, ir_version=10)


def test_weights_per_channel() -> None:
    """Columns of very different size are all resolved to half a step."""
    array, scale = quantized_weight(WEIGHT)
    assert (array.dtype, scale.shape) == (np.int8, (8,))
    assert array.min() >= -127
    assert np.abs(array).max(axis=0).tolist() == [127] * 8
    assert (np.abs(array * scale - WEIGHT) <= scale / 2 * 1.001).all()


def test_a_column_of_zeros() -> None:
    array, scale = quantized_weight(np.zeros((4, 3), np.float32))
    assert not array.any()
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


def test_pairs_of_quantize_and_dequantize() -> None:
    built = linear_model()
    quantize(built, layers={"/blocks.0/q/MatMul": (0.03,), "/blocks.0/k/MatMul": (0.03,)})
    count = [node.op_type for node in built.graph]
    assert count.count("QuantizeLinear") == 1  # the activation's, shared
    assert count.count("DequantizeLinear") == 2  # and one for the shared weight
    assert "w" not in built.graph.initializers
    for node in built.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = node.inputs[2].const_value.numpy()
            assert zero.dtype == np.int8
            assert not zero.any()  # symmetric, as TensorRT wants it
    session = ort.InferenceSession(ir.to_proto(built).SerializeToString(), providers=["CPUExecutionProvider"])
    a, b, c = session.run(None, {"x": X, "square": np.eye(32, dtype=np.float32)})
    np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(c, X, atol=1e-6)
    error = np.linalg.norm(a - X @ WEIGHT, axis=0) / np.linalg.norm(X @ WEIGHT, axis=0)
    assert (error < 0.02).all()


def test_scales_behind_the_products() -> None:
    """The same integers, one scale in DequantizeLinear, the columns' rest in a Mul behind the product."""
    layers = {"/blocks.0/q/MatMul": (0.03,)}
    forms = [linear_model(), linear_model()]
    for form, scaled_products in zip(forms, (False, True), strict=True):
        quantize(form, layers=layers, scaled_products=scaled_products)
    inside, behind = forms
    assert np.array_equal(*(form.graph.initializers["w.int8"].const_value.numpy() for form in forms))
    assert [form.graph.initializers["w.int8.scale"].const_value.numpy().shape for form in forms] == [(8,), ()]
    (product,) = (node for node in behind.graph if node.name == "/blocks.0/q/MatMul")
    assert [node.op_type for node in quantization_of(product)] == [
        "Mul", "DequantizeLinear", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    feeds = {"x": X, "square": np.eye(32, dtype=np.float32)}
    a, b = (
        ort.InferenceSession(ir.to_proto(form).SerializeToString(), providers=["CPUExecutionProvider"]).run(
            ["a"], feeds
        )[0]
        for form in (inside, behind)
    )
    np.testing.assert_allclose(a, b, rtol=2e-3)


@pytest.mark.parametrize("value", [0.0, 1e-9])
def test_scales_of_next_to_nothing_fit_float16(value: float) -> None:
    """Their inverse too, which is what kernels multiply by."""
    built = linear_model()
    built.graph.initializers["w"].const_value = ir.tensor(np.full((32, 8), value, np.float32), name="w")
    quantize(built, layers={"/blocks.0/q/MatMul": (1e-30,)}, scaled_products=True)
    scales = [v.const_value.numpy() for name, v in built.graph.initializers.items() if name.endswith(".scale")]
    assert len(scales) == 2
    assert all(np.isfinite(1 / scale.astype(np.float16)) for scale in scales)


def test_float8() -> None:
    built = linear_model()
    quantize(built, layers={"/blocks.0/q/MatMul": (4.0 / 448,)}, number="fp8", scaled_products=True)
    weight = built.graph.initializers["w.fp8"].const_value.numpy().astype(np.float32)
    assert np.abs(weight).max(axis=0).tolist() == [448] * 8
    session = ort.InferenceSession(ir.to_proto(built).SerializeToString(), providers=["CPUExecutionProvider"])
    (a,) = session.run(["a"], {"x": X, "square": np.eye(32, dtype=np.float32)})
    error = np.linalg.norm(a - X @ WEIGHT, axis=0) / np.linalg.norm(X @ WEIGHT, axis=0)
    assert (error < 0.08).all()  # three bits behind the point


def test_a_product_of_two_activations() -> None:
    built = linear_model()
    quantize(built, layers={"/blocks.0/attn/MatMul": (0.03, 1.0)})
    assert [node.op_type for node in built.graph].count("QuantizeLinear") == 2
    session = ort.InferenceSession(ir.to_proto(built).SerializeToString(), providers=["CPUExecutionProvider"])
    *_, c = session.run(None, {"x": X, "square": np.eye(32, dtype=np.float32)})
    clipped = np.clip(X, -128 * 0.03, 127 * 0.03)
    assert 0 < np.abs(c - clipped).max() <= 0.0151


@pytest.mark.parametrize(
    ("name", "scales"),
    [("/blocks.0/attn/MatMul", (0.1,)), ("/blocks.0/q/MatMul", (0.1, 0.1)), ("/nowhere/MatMul", (0.1,))],
)
def test_scales_for_other_operands(name: str, scales: tuple[float, ...]) -> None:
    with pytest.raises(GraphError, match=f"{name} is no MatMul of {len(scales)} activations"):
        quantize(linear_model(), layers={name: scales})


@pytest.mark.parametrize(
    ("fragment", "keep", "expected"),
    [("/blocks.", (), ["q", "k"]), ("/blocks.", ("/k/",), ["q"]), ("/blocks.", ("*/k/*",), ["q"])],
)
def test_which_layers(fragment: str, keep: tuple[str, ...], expected: list[str]) -> None:
    assert [str(n.name).split("/")[2] for n in quantizable_nodes(linear_model(), fragment, keep)] == expected


@pytest.mark.parametrize(("fragment", "keep"), [("/layers.", ()), ("/blocks.", ("MatMul",))])
def test_nothing_to_quantize(fragment: str, keep: tuple[str, ...]) -> None:
    with pytest.raises(GraphError, match="no layer to quantize"):
        quantizable_nodes(linear_model(), fragment, keep)
