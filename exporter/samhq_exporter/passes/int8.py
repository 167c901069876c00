"""Explicit int8: QuantizeLinear / DequantizeLinear pairs on both inputs of the chosen matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from samhq_runtime.errors import GraphError

from .build import drop_unused_initializers, new_initializer, new_node

INT8_MAX = 127  # symmetric, as TensorRT wants it: -128 is not used


def to_int8(model: ir.Model, *, layers: Mapping[str, Sequence[float]]) -> None:
    """Quantize both operands of every product in `layers`: activations per tensor, weights per output channel.

    Args:
        model: float32; changed in place. What surrounds the products, biases included, stays float32.
        layers: MatMul nodes by name, with the scale of each operand that is an activation: one if the other is a
            constant weight (K,N), else two.

    Raises:
        GraphError: no such node, or scales for another number of activations.
    """
    nodes = {node.name: node for node in model.graph}
    quantizer = _Quantizer(model.graph)
    for name, scales in layers.items():
        node = nodes.get(name)
        if node is None or node.op_type != "MatMul" or len(activations_of(node)) != len(scales):
            raise GraphError(f"{model.graph.name}: {name} is no MatMul of {len(scales)} activations; it cannot be int8")
        quantizer.quantize(node, scales)
    drop_unused_initializers(model.graph)


def activations_of(node: ir.Node) -> list[ir.Value]:
    """The operands of a MatMul that are not a constant weight."""
    operands = node.inputs[:1] if weight_of(node) is not None else node.inputs
    return [value for value in operands if value is not None]


def weight_of(node: ir.Node) -> ir.Value | None:
    """The constant (K,N) right-hand side of a MatMul, None for any other node."""
    if node.op_type != "MatMul":
        return None
    weight = node.inputs[1]
    constant = weight is not None and weight.const_value is not None and not weight.is_graph_input()
    return weight if constant and weight is not None and weight.shape is not None and len(weight.shape) == 2 else None


def quantized_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(K,N) -> int8 (K,N) and the scale of each column (N,)."""
    scale = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny * INT8_MAX) / np.float32(INT8_MAX)
    return np.clip(np.round(weight / scale), -INT8_MAX, INT8_MAX).astype(np.int8), scale.astype(np.float32)


class _Quantizer:
    """Shares one pair per activation and scale, and one dequantized copy per weight."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.activations: dict[tuple[int, float], ir.Value] = {}
        self.weights: dict[int, ir.Value] = {}

    def quantize(self, node: ir.Node, scales: Sequence[float]) -> None:
        for index, (activation, scale) in enumerate(zip(activations_of(node), scales, strict=True)):
            node.replace_input_with(index, self._activation(activation, scale, node))
        weight = weight_of(node)
        if weight is not None:
            node.replace_input_with(1, self._weight(weight, node))

    def _weight(self, weight: ir.Value, before: ir.Node) -> ir.Value:
        if id(weight) in self.weights:
            return self.weights[id(weight)]
        assert weight.const_value is not None
        array, scale = quantized_weight(weight.const_value.numpy())
        name = f"{weight.name}.int8"
        inputs = [
            new_initializer(self.graph, name, array),
            new_initializer(self.graph, f"{name}.scale", scale),
            new_initializer(self.graph, f"{name}.zero", np.zeros(len(scale), np.int8)),
        ]
        dequantized = self._insert(before, "DequantizeLinear", inputs, f"{name}/dequantized", weight, axis=1)
        return self.weights.setdefault(id(weight), dequantized)

    def _activation(self, value: ir.Value, scale: float, before: ir.Node) -> ir.Value:
        if (id(value), scale) in self.activations:
            return self.activations[id(value), scale]
        name = f"{before.name}/{value.name}"
        constants = [
            new_initializer(self.graph, f"{name}.scale", np.array(scale, np.float32)),
            new_initializer(self.graph, f"{name}.zero", np.array(0, np.int8)),
        ]
        quantized = self._insert(before, "QuantizeLinear", [value, *constants], f"{name}/quantized", value)
        quantized.type = ir.TensorType(ir.DataType.INT8)
        dequantized = self._insert(before, "DequantizeLinear", [quantized, *constants], f"{name}/dequantized", value)
        return self.activations.setdefault((id(value), scale), dequantized)

    def _insert(
        self, before: ir.Node, op_type: str, inputs: list[ir.Value], name: str, like: ir.Value, **attributes: int
    ) -> ir.Value:
        node = new_node(op_type, inputs, name, ir.DataType.FLOAT, like.shape, **attributes)
        self.graph.insert_before(before, node)
        return node.outputs[0]
