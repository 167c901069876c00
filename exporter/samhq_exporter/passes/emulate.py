"""A bfloat16 graph for machines without bfloat16 arithmetic: float32 operators, every result rounded where it was."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from .build import new_cast
from .operators import MOVES

_FLOAT, _BFLOAT16 = ir.DataType.FLOAT, ir.DataType.BFLOAT16


def emulate_bfloat16(model: ir.Model) -> ir.Model:
    """A copy of `model` in float32 with its rounding points: results differ by the order of float32 sums only.

    Weights keep their bfloat16 values. Postcondition: no operator but Cast has a bfloat16 input or output.
    """
    copy = model.clone()
    graph = copy.graph
    for value in list(graph.initializers.values()):
        if value.dtype == _BFLOAT16:
            assert value.const_value is not None
            array = np.asarray(value.const_value.numpy()).astype(ml_dtypes.bfloat16).astype(np.float32)
            value.const_value = ir.tensor(array, name=value.name)
            value.type = ir.TensorType(_FLOAT)
    for node in list(graph):
        for output in node.outputs:
            if output.dtype == _BFLOAT16:
                _widen(graph, node, output)
    return copy


def _widen(graph: ir.Graph, node: ir.Node, output: ir.Value) -> None:
    """Make a bfloat16 result float32, rounded to bfloat16 unless `node` only moves values."""
    if node.op_type in MOVES:  # what comes out is already rounded
        output.type = ir.TensorType(_FLOAT)
        return
    users = list(output.uses())
    last = node
    if node.op_type != "Cast":
        output.type = ir.TensorType(_FLOAT)
        last = _cast(graph, node, output, _BFLOAT16, "rounded")
    back = _cast(graph, last, last.outputs[0], _FLOAT, "float32")
    for user, index in users:
        user.replace_input_with(index, back.outputs[0])


def _cast(graph: ir.Graph, after: ir.Node, value: ir.Value, dtype: ir.DataType, suffix: str) -> ir.Node:
    node = new_cast(value, dtype, f"{value.name}/{suffix}")
    graph.insert_after(after, node)
    return node
