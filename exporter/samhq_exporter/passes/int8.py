"""Explicit int8: QuantizeLinear / DequantizeLinear pairs on both inputs of the chosen matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from samhq_runtime.errors import GraphError

_LEVELS = 127  # symmetric, as TensorRT wants it: -128 is not used
_INT8 = ir.DataType.INT8


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
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_input():
            del model.graph.initializers[name]


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
    scale = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny * _LEVELS) / np.float32(_LEVELS)
    return np.clip(np.round(weight / scale), -_LEVELS, _LEVELS).astype(np.int8), scale.astype(np.float32)


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
            self._constant(name, array),
            self._constant(f"{name}.scale", scale),
            self._constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
        ]
        dequantized = self._node("DequantizeLinear", inputs, f"{name}/dequantized", weight, before, axis=1)
        return self.weights.setdefault(id(weight), dequantized)

    def _activation(self, value: ir.Value, scale: float, before: ir.Node) -> ir.Value:
        if (id(value), scale) in self.activations:
            return self.activations[id(value), scale]
        name = f"{before.name}/{value.name}"
        constants = [
            self._constant(f"{name}.scale", np.float32(scale)),
            self._constant(f"{name}.zero", np.int8(0)),
        ]
        quantized = self._node("QuantizeLinear", [value, *constants], f"{name}/quantized", value, before)
        quantized.type = ir.TensorType(_INT8)
        dequantized = self._node("DequantizeLinear", [quantized, *constants], f"{name}/dequantized", value, before)
        return self.activations.setdefault((id(value), scale), dequantized)

    def _constant(self, name: str, array: NDArray[np.generic] | np.generic) -> ir.Value:
        tensor = ir.tensor(np.asarray(array), name=name)
        value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype))
        value.shape = ir.Shape(tensor.numpy().shape)
        self.graph.register_initializer(value)
        return value

    def _node(
        self, op_type: str, inputs: list[ir.Value], name: str, like: ir.Value, before: ir.Node, **attributes: int
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes, name=name)
        output = node.outputs[0]
        output.name, output.type, output.shape = name, ir.TensorType(ir.DataType.FLOAT), like.shape
        self.graph.insert_before(before, node)
        return output
