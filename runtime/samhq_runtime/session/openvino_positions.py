"""Relative positions the way OpenVINO's CPU plug-in likes them: as a bias of the scores.

The exported encoder carries them as extra channels, `[q, rel_h, rel_w] @ [k, onehot_h, onehot_w]^T`, because most fused
attention kernels take no bias. The plug-in's kernel does, and then multiplies by d channels instead of d + 2 * side
(64 instead of 192 in the global blocks of SAM). It reads the bias whole, though, 0.8 GB in such a block, so attention
is cut into blocks of queries and heads with 32 MB of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op
from openvino.passes import AnyInput, Manager, Matcher, MatcherPass, Optional, Or, WrapType

from ..contract import Array

_BLOCK_QUERIES = 1024
_BLOCK_BYTES = 2**25  # of float32 bias; smaller blocks gain no time, and more of them take longer to compile
_HEADS, _TOKENS = 1, 2  # axes of (B, heads, tokens, width)


def positions_as_bias(model: ov.Model) -> int:
    """Rewrite every attention of `model` whose keys end in their one-hot row and column; returns how many.

    Results are unchanged but for rounding. Only with static shapes does the plug-in take the bias into its kernel.
    """
    rewrite = _PositionsAsBias()
    manager = Manager()
    manager.register_pass(rewrite)
    manager.run_passes(model)
    return rewrite.count


class _PositionsAsBias(MatcherPass):  # type: ignore[misc]  # openvino has no types for it
    """Operands are (B, side, side, heads, d), (B, side, side, heads, side) twice, and (B, side^2, heads, d) twice.

    The Converts are those of float16 graphs, whose softmax is float32; the Pads too, which are for other fused kernels
    and left out: values then have the width that a Slice behind cuts them to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.query, self.rel_h, self.rel_w, self.key, self.value = (AnyInput() for _ in range(5))
        self.onehot = WrapType("opset1.Constant")
        queries = WrapType("opset1.Concat", [self.query, self.rel_h, self.rel_w])
        queries = _padded(WrapType("opset1.Reshape", [queries, AnyInput()]))
        keys = _padded(WrapType("opset1.Concat", [self.key, WrapType("opset3.Broadcast", [self.onehot, AnyInput()])]))
        operands = [
            WrapType("opset1.Transpose", [operand, AnyInput()]) for operand in (queries, keys, _padded(self.value))
        ]
        scores = Optional(["opset1.Convert"], [WrapType("opset1.MatMul", operands[:2])])
        self.softmax = WrapType("opset8.Softmax", [scores])
        weights = Optional(["opset1.Convert"], [self.softmax])
        root = WrapType("opset1.MatMul", [weights, operands[2]])
        self.register_matcher(Matcher(root, "PositionsAsBias"), self._rewrite)

    def _rewrite(self, matcher: Any) -> bool:
        found = matcher.get_pattern_value_map()
        operands = (self.query, self.rel_h, self.rel_w, self.key, self.value)
        query, rel_h, rel_w, key, value = (found[node] for node in operands)
        side, _, heads, dim = (size.get_length() for size in list(query.get_partial_shape())[1:])
        if not np.array_equal(found[self.onehot].get_node().data, _onehot(side)):
            return False
        attend = _Attention(side, found[self.softmax].get_element_type())
        shape = (-1, side * side, heads)
        q, k = (_heads_first(_reshape(part, *shape, dim)) for part in (query, key))
        by_row, by_column = (_heads_first(_reshape(part, *shape, side)) for part in (rel_h, rel_w))
        groups, chunks = _blocks(heads, side * side)
        outputs = []
        for q_h, k_h, v_h, row_h, column_h in _split((q, k, _heads_first(value), by_row, by_column), _HEADS, groups):
            blocks = _split((q_h, row_h, column_h), _TOKENS, chunks)
            outputs.append(_concat([attend(q_b, k_h, v_h, row, column) for q_b, row, column in blocks], _TOKENS))
        matcher.get_match_root().output(0).replace(_concat(outputs, _HEADS).output(0))
        self.count += 1
        return True


def _padded(operand: Any) -> Any:
    """`operand`, or with zeros behind its last channel."""
    return Or([operand, WrapType("opset12.Pad", [operand, AnyInput(), AnyInput(), AnyInput()])])


class _Attention:
    """softmax(Q K^T + by_row + by_column) V of (B, heads, queries or tokens, width) operands."""

    def __init__(self, side: int, softmax_type: Any) -> None:
        self.side = side
        self.softmax_type = softmax_type

    def __call__(self, q: Any, k: Any, v: Any, by_row: Any, by_column: Any) -> Any:
        _, heads, queries, _ = (size.get_length() if size.is_static else -1 for size in q.get_partial_shape())
        rows = (-1, heads, queries)
        scores = _reshape(op.matmul(q, k, transpose_a=False, transpose_b=True), *rows, self.side, self.side)
        scores = op.add(scores, _reshape(by_row, *rows, self.side, 1))
        scores = op.add(scores, _reshape(by_column, *rows, 1, self.side))
        weights = op.softmax(_convert(_reshape(scores, *rows, self.side**2), self.softmax_type), axis=-1).output(0)
        return op.matmul(_convert(weights, v.get_element_type()), v, transpose_a=False, transpose_b=False)


def _blocks(heads: int, tokens: int) -> tuple[int, int]:
    """Into how many groups of heads, and chunks of queries, attention is cut."""
    chunks = tokens // _BLOCK_QUERIES if tokens % _BLOCK_QUERIES == 0 else 1
    together = max(1, _BLOCK_BYTES // (4 * tokens * tokens // chunks))
    return next(groups for groups in range(1, heads + 1) if heads % groups == 0 and heads // groups <= together), chunks


def _split(values: Sequence[Any], axis: int, parts: int) -> list[tuple[Any, ...]]:
    if parts == 1:
        return [tuple(values)]
    return list(zip(*(op.split(value, np.int64(axis), parts).outputs() for value in values), strict=True))


def _concat(parts: Sequence[Any], axis: int) -> Any:
    return parts[0] if len(parts) == 1 else op.concat(list(parts), axis)


def _reshape(value: Any, *shape: int) -> Any:
    return op.reshape(value, np.array(shape, np.int64), special_zero=False).output(0)


def _heads_first(value: Any) -> Any:
    return op.transpose(value, np.array([0, 2, 1, 3], np.int64)).output(0)


def _convert(value: Any, element_type: Any) -> Any:
    if value.get_element_type() == element_type:
        return value
    return op.convert(value, element_type.get_type_name()).output(0)


def _onehot(side: int) -> Array:
    """(1, side^2, 1, 2 * side): row and column of every key."""
    rows, columns = np.divmod(np.arange(side * side), side)
    eye = np.eye(side)
    return np.concatenate([eye[rows], eye[columns]], axis=-1)[None, :, None]
