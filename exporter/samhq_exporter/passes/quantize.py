"""Explicit quantization: QuantizeLinear / DequantizeLinear pairs on the operands of the chosen matrix products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from samhq_runtime.errors import GraphError

from .build import drop_unused_initializers, new_initializer, new_node


@dataclass(frozen=True)
class Number:
    """A type that operands are stored in; values are divided by a scale that brings the largest to `largest`."""

    name: str
    dtype: np.dtype
    largest: float

    def round(self, levels: NDArray[np.float32]) -> NDArray[np.generic]:
        """`levels`, within the type's range, to the nearest it has."""
        return (np.round(levels) if self.dtype.kind == "i" else levels).astype(self.dtype)


NUMBERS = {
    "int8": Number("int8", np.dtype(np.int8), 127.0),  # symmetric, as TensorRT wants it: -128 is not used
    "fp8": Number("fp8", np.dtype(ml_dtypes.float8_e4m3fn), 448.0),
}
_SMALLEST_SCALE, _LARGEST_SCALE = 2.0**-14, 2.0**14  # float16 holds them and their inverses well


def quantize(
    model: ir.Model, *, layers: Mapping[str, Sequence[float]], number: str = "int8", scaled_products: bool = False
) -> None:
    """Quantize both operands of every product in `layers`: activations per tensor, weights per output channel.

    Args:
        model: float32; changed in place. What surrounds the products, biases included, stays float32.
        layers: MatMul nodes by name, with the scale of each operand that is an activation: one if the other is a
            constant weight (K,N), else two.
        number: a row of `NUMBERS`.
        scaled_products: where the scales of the weights' columns go. False: into DequantizeLinear, which ONNX Runtime
            folds into its int8 product. True: one scale for all columns there, and a Mul by the rest behind the
            product. With a scale per column TensorRT stores the sums of the integers themselves, up to
            127 * 127 * K, which float16 does not hold; one scale it folds into the product, whose results then are of
            the size of the real ones.

    Raises:
        GraphError: no such node, or scales for another number of activations.
    """
    nodes = {node.name: node for node in model.graph}
    quantizer = _Quantizer(model.graph, NUMBERS[number], scaled_products=scaled_products)
    for name, scales in layers.items():
        node = nodes.get(name)
        if node is None or node.op_type != "MatMul" or len(activations_of(node)) != len(scales):
            raise GraphError(
                f"{model.graph.name}: {name} is no MatMul of {len(scales)} activations; it cannot be {number}"
            )
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


def quantized_weight(
    weight: NDArray[np.float32], number: Number = NUMBERS["int8"]
) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """(K,N) -> (K,N) in `number` and the scale of each column (N,)."""
    largest = np.float32(number.largest)
    scale = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny * largest) / largest
    return number.round(np.clip(weight / scale, -largest, largest)), scale.astype(np.float32)


def quantization_of(node: ir.Node) -> list[ir.Node]:
    """The nodes that `quantize` put around a product."""
    found = [user for output in node.outputs for user, _ in output.uses() if user.name == _scaling(node)]
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        if producer is not None and producer.op_type == "DequantizeLinear":
            before = producer.inputs[0].producer() if producer.inputs[0] is not None else None
            found += [producer] if before is None else [producer, before]
    return found


class _Quantizer:
    """Shares one pair per activation and scale, and one dequantized copy per weight."""

    def __init__(self, graph: ir.Graph, number: Number, *, scaled_products: bool) -> None:
        self.graph = graph
        self.number = number
        self.scaled_products = scaled_products
        self.activations: dict[tuple[int, float], ir.Value] = {}
        self.weights: dict[int, tuple[ir.Value, NDArray[np.float32]]] = {}

    def quantize(self, node: ir.Node, scales: Sequence[float]) -> None:
        weight = weight_of(node)
        for index, (activation, scale) in enumerate(zip(activations_of(node), scales, strict=True)):
            node.replace_input_with(index, self._activation(activation, scale, node))
        if weight is not None:
            dequantized, columns = self._weight(weight, node)
            node.replace_input_with(1, dequantized)
            if self.scaled_products:
                self._scale(node, columns)

    def _weight(self, weight: ir.Value, before: ir.Node) -> tuple[ir.Value, NDArray[np.float32]]:
        """The dequantized weight, and what its product's columns (N,) still have to be multiplied by."""
        if id(weight) in self.weights:
            return self.weights[id(weight)]
        assert weight.const_value is not None
        array, columns = quantized_weight(weight.const_value.numpy(), self.number)
        name = f"{weight.name}.{self.number.name}"
        scale, rest = columns, columns
        if self.scaled_products:
            common = np.float16(np.clip(np.median(columns), _SMALLEST_SCALE, _LARGEST_SCALE))
            scale, rest = np.float32(common), columns / np.float32(common)
        inputs = [
            new_initializer(self.graph, name, array),
            new_initializer(self.graph, f"{name}.scale", np.asarray(scale)),
            new_initializer(self.graph, f"{name}.zero", np.zeros(np.shape(scale), self.number.dtype)),
        ]
        axis = {} if self.scaled_products else {"axis": 1}
        dequantized = self._insert(before, "DequantizeLinear", inputs, f"{name}/dequantized", weight, **axis)
        return self.weights.setdefault(id(weight), (dequantized, rest))

    def _scale(self, node: ir.Node, columns: NDArray[np.float32]) -> None:
        product, name = node.outputs[0], _scaling(node)
        users = list(product.uses())
        factors = new_initializer(self.graph, f"{name}/columns", columns)
        scaled = new_node("Mul", [product, factors], name, ir.DataType.FLOAT, product.shape)
        self.graph.insert_after(node, scaled)
        for user, index in users:
            user.replace_input_with(index, scaled.outputs[0])
        if product.is_graph_output():
            outer = product.name
            self.graph.outputs[list(self.graph.outputs).index(product)] = scaled.outputs[0]
            product.name, scaled.outputs[0].name = f"{outer}/unscaled", outer

    def _activation(self, value: ir.Value, scale: float, before: ir.Node) -> ir.Value:
        scale = max(scale, _SMALLEST_SCALE) if self.scaled_products else scale
        if (id(value), scale) in self.activations:
            return self.activations[id(value), scale]
        name = f"{before.name}/{value.name}"
        constants = [
            new_initializer(self.graph, f"{name}.scale", np.array(scale, np.float32)),
            new_initializer(self.graph, f"{name}.zero", np.array(0, self.number.dtype)),
        ]
        quantized = self._insert(before, "QuantizeLinear", [value, *constants], f"{name}/quantized", value)
        quantized.type = constants[1].type
        dequantized = self._insert(before, "DequantizeLinear", [quantized, *constants], f"{name}/dequantized", value)
        return self.activations.setdefault((id(value), scale), dequantized)

    def _insert(
        self, before: ir.Node, op_type: str, inputs: list[ir.Value], name: str, like: ir.Value, **attributes: int
    ) -> ir.Value:
        node = new_node(op_type, inputs, name, ir.DataType.FLOAT, like.shape, **attributes)
        self.graph.insert_before(before, node)
        return node.outputs[0]


def _scaling(node: ir.Node) -> str:
    return f"{node.name}/columns"
