"""Nodes and initializers as passes make them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from samhq_exporter.passes.build import drop_unused_initializers, new_cast, new_initializer, new_node


def graph_of(*inputs: ir.Value) -> ir.Graph:
    return ir.Graph(list(inputs), [], nodes=[], opset_imports={"": 20}, name="graph")


def float_value(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(("n", 4)))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.zeros((2, 3), np.float32), ir.DataType.FLOAT),
        (np.zeros(2, np.float16), ir.DataType.FLOAT16),
        (np.zeros(2, ml_dtypes.bfloat16), ir.DataType.BFLOAT16),
        (np.array(0, np.int8), ir.DataType.INT8),
        (np.array([-1], np.int64), ir.DataType.INT64),
    ],
)
def test_new_initializer(array: np.ndarray, dtype: ir.DataType) -> None:
    graph = graph_of()
    value = new_initializer(graph, "w", array)
    assert graph.initializers["w"] is value
    assert (value.name, value.dtype, tuple(value.shape)) == ("w", dtype, array.shape)
    assert value.const_value.name == "w"


def test_new_node_names_its_output() -> None:
    node = new_node("ReduceMax", [float_value("x")], "largest", ir.DataType.FLOAT, keepdims=0)
    assert (node.name, node.outputs[0].name, node.outputs[0].shape) == ("largest", "largest", None)
    assert node.attributes["keepdims"].as_int() == 0


def test_new_cast_keeps_the_shape() -> None:
    cast = new_cast(float_value("x"), ir.DataType.FLOAT16, "x/to_fp16")
    assert (cast.op_type, cast.attributes["to"].as_int()) == ("Cast", int(ir.DataType.FLOAT16))
    assert (cast.outputs[0].dtype, cast.outputs[0].shape) == (ir.DataType.FLOAT16, ir.Shape(("n", 4)))


def test_the_sweep_keeps_what_is_read_and_defaults_of_inputs() -> None:
    given = float_value("given")
    given.const_value = ir.tensor(np.zeros((1, 4), np.float32), name="given")
    graph = graph_of(given)
    graph.register_initializer(given)
    used = new_initializer(graph, "used", np.zeros(4, np.float32))
    new_initializer(graph, "unused", np.zeros(4, np.float32))
    graph.append(new_node("Neg", [used], "negative", ir.DataType.FLOAT))
    drop_unused_initializers(graph)
    assert set(graph.initializers) == {"given", "used"}
