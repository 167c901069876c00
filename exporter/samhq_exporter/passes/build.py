"""What every pass that adds to a graph needs: named, typed nodes and initializers, and the sweep of what fell out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def new_node(
    op_type: str,
    inputs: list[ir.Value],
    name: str,
    dtype: ir.DataType,
    shape: ir.Shape | None = None,
    /,
    **attributes: int,
) -> ir.Node:
    """A node with one output, which bears the node's name; the caller inserts it into a graph."""
    node = ir.node(op_type, inputs, attributes, name=name)
    output = node.outputs[0]
    output.name, output.type, output.shape = name, ir.TensorType(dtype), shape
    return node


def new_cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    """`value` as `dtype`; the caller inserts it."""
    return new_node("Cast", [value], name, dtype, value.shape, to=int(dtype))


def new_initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """A constant of `graph`, of the array's dtype and shape."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove the constants that no node reads; a graph input's default stays."""
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_input():
            del graph.initializers[name]
