"""Other ways to write the encoder's attention that could suit TensorRT, in the place of `passes/pad_attention.py`.

Each takes the float32 graph before it is typed, and changes it in place; the token grid must be square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

import numpy as np
import onnx_ir as ir

from samhq_exporter.passes.build import new_initializer, new_node
from samhq_exporter.passes.pad_attention import pad_attention

_FLOAT = ir.DataType.FLOAT
_ATTENTION_OPSET = 23
_K_AS_IS = (0, 2, 1, 3)  # (B, tokens, heads, width) -> (B, heads, tokens, width)


def unpadded(model: ir.Model) -> int:
    """As the model is: queries and keys wider than values by the relative positions."""
    return 0


def operator(model: ir.Model) -> int:
    """Padded, and the three nodes written as the one operator of opset 23.

    Without `softmax_precision`, which TensorRT's parser refuses.
    """
    count = pad_attention(model)
    for scores, softmax, pooled in _attentions(model):
        query, value = _inputs(scores)[0], _inputs(pooled)[1]
        transpose = _inputs(scores)[1].producer()
        assert transpose is not None
        name = f"{softmax.name}/attention"
        key = ir.node("Transpose", transpose.inputs, {"perm": _K_AS_IS}, name=f"{name}/key")
        attention = ir.node("Attention", [query, key.outputs[0], value], {"scale": 1.0}, name=name)
        for node in (key, attention):
            node.outputs[0].name, node.outputs[0].type = f"{node.name}/out", ir.TensorType(_FLOAT)
            model.graph.insert_before(pooled, node)
        _replace(model, [scores, softmax, pooled], attention.outputs[0])
    model.opset_imports[""] = _ATTENTION_OPSET
    return count


def masked(model: ir.Model) -> int:
    """Queries and keys of the values' width, the relative positions as a mask that is added to the scores."""
    for scores, softmax, _ in list(_attentions(model)):
        query, key = _inputs(scores)
        grid = isqrt(_size(query, 2))
        width = _size(query, 3) - 2 * grid
        parts = (0, width, width + grid, width + 2 * grid)
        name = str(softmax.name)
        q, rows, columns = (
            _slice(model, scores, query, f"{name}/q{i}", 3, a, b) for i, (a, b) in enumerate(pairwise(parts))
        )
        k = _slice(model, scores, key, f"{name}/k", 2, 0, width)
        down = _node(model, scores, "Unsqueeze", [rows, _ints(model, f"{name}/4", [4])], f"{name}/rows")
        across = _node(model, scores, "Unsqueeze", [columns, _ints(model, f"{name}/3", [3])], f"{name}/columns")
        mask = _node(model, scores, "Add", [down, across], f"{name}/positions")
        mask = _node(model, scores, "Reshape", [mask, _ints(model, f"{name}/flat", [0, 0, 0, -1])], f"{name}/mask")
        plain = _node(model, scores, "MatMul", [q, k], f"{name}/plain")
        added = _node(model, scores, "Add", [plain, mask], f"{name}/added")
        softmax.replace_input_with(0, added)
        model.graph.remove(scores)
    return 0


FORMS: Mapping[str, Callable[[ir.Model], int]] = {
    "as it ships": pad_attention,
    "not padded": unpadded,
    "additive mask": masked,
    "operator Attention": operator,
}


@dataclass(frozen=True)
class _Attention:
    scores: ir.Node
    softmax: ir.Node
    pooled: ir.Node

    def __iter__(self) -> Iterator[ir.Node]:
        return iter((self.scores, self.softmax, self.pooled))


def _attentions(model: ir.Model) -> list[_Attention]:
    found = []
    for softmax in [node for node in model.graph if node.op_type == "Softmax"]:
        scores = _inputs(softmax)[0].producer()
        (pooled,) = (user for user, _ in softmax.outputs[0].uses())
        assert scores is not None
        found.append(_Attention(scores, softmax, pooled))
    return found


def _inputs(node: ir.Node) -> Sequence[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _size(value: ir.Value, axis: int) -> int:
    assert value.shape is not None
    return int(value.shape[axis])  # type: ignore[arg-type]


def _slice(model: ir.Model, before: ir.Node, value: ir.Value, name: str, axis: int, start: int, end: int) -> ir.Value:
    bounds = [_ints(model, f"{name}/{role}", [n]) for role, n in (("start", start), ("end", end), ("axis", axis))]
    return _node(model, before, "Slice", [value, *bounds], name)


def _ints(model: ir.Model, name: str, values: list[int]) -> ir.Value:
    return new_initializer(model.graph, name, np.array(values, np.int64))


def _node(model: ir.Model, before: ir.Node, op_type: str, inputs: list[ir.Value], name: str) -> ir.Value:
    node = new_node(op_type, inputs, name, _FLOAT)
    model.graph.insert_before(before, node)
    return node.outputs[0]


def _replace(model: ir.Model, nodes: Sequence[ir.Node], result: ir.Value) -> None:
    for user, index in list(nodes[-1].outputs[0].uses()):
        user.replace_input_with(index, result)
    for node in reversed(nodes):
        model.graph.remove(node)
