"""Graphs of a few nodes, written by hand, for the tests of passes and of measured ranges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from samhq_exporter.precision.ranges import RangeRecorder

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


def scaled(gain: float = 1.0, by: float = 1.0) -> ir.Model:
    """x -> Mul by `gain` -> MatMul with `by` * identity -> Mul by 1 / gain -> y."""
    x, big, product, y = (value(name) for name in ("x", "big", "product", "y"))
    first, last = (
        weight(name, np.asarray(number, np.float32)) for name, number in (("gain", gain), ("back", 1 / gain))
    )
    square = weight("weight", by * np.eye(4, dtype=np.float32))
    nodes = [
        node("Mul", [x, first], big, "/up/Mul"),
        node("MatMul", [big, square], product, "/linear/MatMul"),
        node("Mul", [product, last], y, "/down/Mul"),
    ]
    return model(nodes, [x], [y], [first, square, last], name="image_encoder")


def largest_magnitudes(built: ir.Model, folder: Path, *batches: np.ndarray) -> dict[str, float]:
    """Of every value of a graph of one input `x`."""
    with RangeRecorder(built, folder) as recorder:
        for batch in batches:
            recorder.run({"x": batch.astype(np.float32)})
        return recorder.largest
