"""Shape arithmetic that the tracer wrote down and the graph does not need."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .build import new_initializer


def simplify_reshapes(model: ir.Model) -> None:
    """`Reshape(x, [Shape(x)[0], -1, 8, 32])` -> `Reshape(x, [0, -1, 8, 32])`.

    ONNX reads 0 as "copy this dimension", so the graph needs no shape arithmetic at run time. Only targets whose every
    entry is a constant, or the dimension of `x` at the same position, are touched.
    """
    graph = model.graph
    for node in graph:
        if node.op_type != "Reshape":
            continue
        data, shape = node.inputs
        target = _static_target(shape, data)
        if target is None:
            continue
        assert shape is not None
        value = new_initializer(graph, f"{node.name}/shape", np.array(target, np.int64))
        node.replace_input_with(1, value)


def simplify_expands(model: ir.Model) -> None:
    """`Expand(x, Where(shape == -1, 1, shape))` -> `Expand(x, shape)`.

    The tracer guards against torch's "-1 keeps a dimension"; our modules never pass -1, so the guard is dead.
    """
    for node in model.graph:
        if node.op_type != "Expand":
            continue
        where = _producer(node.inputs[1], "Where")
        if where is not None and _producer(where.inputs[0], "Equal") is not None:
            node.replace_input_with(1, _without_reshape(where.inputs[2]))


def _without_reshape(value: ir.Value | None) -> ir.Value | None:
    """The tracer flattens the (already flat) shape before it compares it."""
    node = _producer(value, "Reshape")
    return value if node is None else node.inputs[0]


def _static_target(shape: ir.Value | None, data: ir.Value | None) -> list[int] | None:
    concat = shape.producer() if shape is not None else None
    if concat is None or concat.op_type != "Concat":
        return None
    entries = [_entry(value, data, position) for position, value in enumerate(concat.inputs)]
    return None if None in entries else [entry for entry in entries if entry is not None]


def _entry(value: ir.Value | None, data: ir.Value | None, position: int) -> int | None:
    """The constant in `value`, 0 if it is dimension `position` of `data`, else None."""
    constant = ir.convenience.get_const_tensor(value) if value is not None else None
    if constant is not None:
        return int(constant.numpy().item()) if constant.numpy().size == 1 else None
    gather = _producer(_producer_input(value, "Unsqueeze"), "Gather") or _producer(value, "Gather")
    if gather is None:
        return None
    index = ir.convenience.get_const_tensor(gather.inputs[1]) if gather.inputs[1] is not None else None
    source = _producer_input(gather.inputs[0], "Shape")
    return 0 if index is not None and int(index.numpy().item()) == position and source is data else None


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None


def _producer_input(value: ir.Value | None, op_type: str) -> ir.Value | None:
    node = _producer(value, op_type)
    return node.inputs[0] if node is not None else None
