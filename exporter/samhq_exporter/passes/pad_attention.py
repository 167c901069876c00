"""softmax(Q K^T) V with Q, K and V of one width, which is what TensorRT has a fused kernel for.

Relative positions make queries and keys of the ViT encoder wider than values. TensorRT then takes attention apart and
writes all scores to memory, 402 MB in a global block of vit_b; widths that agree, and are multiples of 8, become one
kernel. Zeros change nothing: those of queries and keys add nothing to a score, those of values are cut off again.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .build import new_initializer, new_node

_MULTIPLE = 8
_PAD, _CUT = "/widened/Pad", "/widened/Slice"  # behind the name of the node that they are put beside
_LAST = 3  # axis of the width in (B, tokens, heads, width) and (B, heads, tokens, width)


def pad_attention(model: ir.Model) -> int:
    """Widen the operands of every softmax(Q K^T) V that needs it; returns how many did.

    Operands must be transposed from (B, tokens, heads, width), their widths static; all else stays as it is.
    """
    return sum(_pad(model.graph, node) for node in list(model.graph) if node.op_type == "Softmax")


def padded_node(node: ir.Node) -> str:
    """The name of the node that `node` was put beside; empty if `pad_attention` did not."""
    name = str(node.name)
    return next((name.removesuffix(role) for role in (_PAD, _CUT) if name.endswith(role)), "")


def _pad(graph: ir.Graph, softmax: ir.Node) -> bool:
    products = _products(softmax)
    transposes = [_transpose(value) for product in products for value in product.inputs]
    operands = [node for node in transposes if node is not None]
    widths = [_width(node.inputs[0]) for node in operands]
    if len(widths) != 3 or None in widths:
        return False
    width = -(-max(w for w in widths if w is not None) // _MULTIPLE) * _MULTIPLE
    if {width} == set(widths):
        return False
    for node in operands:
        _widen(graph, node, width)
    if widths[2] is not None and widths[2] < width:
        _cut(graph, products[1].outputs[0], width)
    return True


def _products(softmax: ir.Node) -> list[ir.Node]:
    """The matrix products before and behind a softmax; empty unless there is one of each."""
    scores = softmax.inputs[0].producer() if softmax.inputs[0] is not None else None
    around = [scores, *(user for user, _ in softmax.outputs[0].uses())]
    found = [node for node in around if node is not None and node.op_type == "MatMul"]
    return found if len(found) == len(around) == 2 else []


def _transpose(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == "Transpose" else None


def _width(value: ir.Value | None) -> int | None:
    shape = value.shape if value is not None else None
    size = shape[_LAST] if shape is not None and len(shape) == _LAST + 1 else None
    return size if isinstance(size, int) else None


def _widen(graph: ir.Graph, transpose: ir.Node, width: int) -> None:
    """Zeros behind the last channel of what `transpose` takes."""
    value = transpose.inputs[0]
    known = _width(value)
    if value is None or value.shape is None or known is None or known == width:
        return
    name = f"{transpose.name}{_PAD}"
    amounts = new_initializer(graph, f"{name}/amounts", np.array([0] * (2 * _LAST + 1) + [width - known], np.int64))
    pad = new_node("Pad", [value, amounts], name, ir.DataType.FLOAT, ir.Shape([*value.shape[:_LAST], width]))
    graph.insert_before(transpose, pad)
    transpose.replace_input_with(0, pad.outputs[0])
    order = transpose.attributes["perm"].as_ints()
    transpose.outputs[0].shape = ir.Shape([(*value.shape[:_LAST], width)[axis] for axis in order])


def _cut(graph: ir.Graph, pooled: ir.Value, width: int) -> None:
    """Only the first channels of (B, heads, tokens, width) go on."""
    producer, narrow = pooled.producer(), pooled.shape
    assert producer is not None
    assert narrow is not None
    users = list(pooled.uses())
    name = f"{producer.name}{_CUT}"
    bounds = {"start": 0, "end": narrow[_LAST], "axis": _LAST}
    constants = [new_initializer(graph, f"{name}/{role}", np.array([n], np.int64)) for role, n in bounds.items()]
    cut = new_node("Slice", [pooled, *constants], name, ir.DataType.FLOAT, narrow)
    graph.insert_after(producer, cut)
    pooled.shape = ir.Shape([*narrow[:_LAST], width])
    for user, index in users:
        user.replace_input_with(index, cut.outputs[0])
