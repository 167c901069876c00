"""Relative positions the way OpenVINO's CPU plug-in likes them: as a bias of the scores.

The exported encoder carries them as extra channels, `[q, rel_h, rel_w] @ [k, onehot_h, onehot_w]^T`, because most fused
attention kernels take no bias. The plug-in's kernel does, and then multiplies by d channels instead of d + 2 * side
(64 instead of 192 in the global blocks of SAM).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op
from openvino.passes import AnyInput, Manager, Matcher, MatcherPass, WrapType

from ..contract import Array


def positions_as_bias(model: ov.Model) -> int:
    """Rewrite every score product of `model` whose keys end in their one-hot row and column; returns how many.

    Scores are unchanged but for rounding. Only with static shapes does the plug-in take the bias into its kernel.
    """
    rewrite = _PositionsAsBias()
    manager = Manager()
    manager.register_pass(rewrite)
    manager.run_passes(model)
    return rewrite.count


class _PositionsAsBias(MatcherPass):  # type: ignore[misc]  # openvino has no types for it
    """Operands are (B, side, side, heads, d), (B, side, side, heads, side) twice, and (B, side^2, heads, d)."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.query, self.rel_h, self.rel_w, self.key = (AnyInput() for _ in range(4))
        self.onehot = WrapType("opset1.Constant")
        queries = WrapType("opset1.Concat", [self.query, self.rel_h, self.rel_w])
        queries = WrapType("opset1.Reshape", [queries, AnyInput()])
        keys = WrapType("opset1.Concat", [self.key, WrapType("opset3.Broadcast", [self.onehot, AnyInput()])])
        operands = [WrapType("opset1.Transpose", [operand, AnyInput()]) for operand in (queries, keys)]
        self.register_matcher(Matcher(WrapType("opset1.MatMul", operands), "PositionsAsBias"), self._rewrite)

    def _rewrite(self, matcher: Any) -> bool:
        found = matcher.get_pattern_value_map()
        query, rel_h, rel_w, key = (found[node] for node in (self.query, self.rel_h, self.rel_w, self.key))
        side, _, heads, dim = (size.get_length() for size in list(query.get_partial_shape())[1:])
        tokens = side * side
        if not np.array_equal(found[self.onehot].get_node().data, _onehot(side)):
            return False

        def reshape(value: Any, *shape: int) -> Any:
            return op.reshape(value, np.array(shape, np.int64), special_zero=False)

        def heads_first(value: Any, width: int) -> Any:
            return op.transpose(reshape(value, -1, tokens, heads, width), np.array([0, 2, 1, 3], np.int64))

        scores = op.matmul(heads_first(query, dim), heads_first(key, dim), transpose_a=False, transpose_b=True)
        by_row = reshape(heads_first(rel_h, side), -1, heads, tokens, side, 1)
        by_column = reshape(heads_first(rel_w, side), -1, heads, tokens, 1, side)
        biased = op.add(op.add(reshape(scores, -1, heads, tokens, side, side), by_row), by_column)
        matcher.get_match_root().output(0).replace(reshape(biased, -1, heads, tokens, tokens).output(0))
        self.count += 1
        return True


def _onehot(side: int) -> Array:
    """(1, side^2, 1, 2 * side): row and column of every key."""
    rows, columns = np.divmod(np.arange(side * side), side)
    eye = np.eye(side)
    return np.concatenate([eye[rows], eye[columns]], axis=-1)[None, :, None]
