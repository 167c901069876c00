"""softmax(Q K^T) V -> ONNX Runtime's own attention operator, which never holds all scores at once.

Only ONNX Runtime knows `com.microsoft.MultiHeadAttention`, so a graph with it is a second form beside the portable one.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import RewriteRuleClassBase, RewriteRuleSet

_HEADS_FIRST = [0, 2, 1, 3]  # (B, tokens, heads, d) -> (B, heads, tokens, d), and back
_KEYS_LAST = [0, 2, 3, 1]  # (B, tokens, heads, d) -> (B, heads, d, tokens)


def fuse_attention(model: ir.Model) -> int:
    """Replace every softmax(Q K^T) V whose operands are transposed from (B, tokens, heads, d); returns how many.

    The operator takes and returns (B, tokens, heads * d), so the transposes go with it. V may have another d than Q and
    K; heads and d of V must be static.
    """
    return RewriteRuleSet([_FuseAttention.rule()]).apply_to_model(model)  # type: ignore[no-untyped-call]


class _FuseAttention(RewriteRuleClassBase):
    def pattern(self, op: Any, q: Any, k: Any, v: Any) -> Any:
        scores = op.MatMul(op.Transpose(q, perm=_HEADS_FIRST), op.Transpose(k, perm=_KEYS_LAST))
        out = op.MatMul(op.Softmax(scores, axis=-1), op.Transpose(v, perm=_HEADS_FIRST))
        return op.Transpose(out, perm=_HEADS_FIRST)

    def check(self, context: Any, q: ir.Value, k: ir.Value, v: ir.Value) -> bool:  # type: ignore[override]
        return v.shape is not None and all(isinstance(size, int) for size in v.shape[2:])

    def rewrite(self, op: Any, q: ir.Value, k: ir.Value, v: ir.Value) -> Any:
        assert v.shape is not None
        heads, head_dim = v.shape[2:]
        flat = op.Constant(value_ints=[0, 0, -1])
        tokens = [op.Reshape(value, flat) for value in (q, k, v)]
        out = op.MultiHeadAttention(*tokens, num_heads=heads, scale=1.0, _domain="com.microsoft", _version=1)
        return op.Reshape(out, op.Constant(value_ints=[0, 0, heads, head_dim]))
