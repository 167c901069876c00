"""LayerNorm over the channels behind a convolution, without moving the channels last and back.

ONNX Runtime's CPU kernel for LayerNormalization goes row by row, which is slow for few channels and many pixels.
Subtracting the mean over output channels is linear, so the convolution does it: its weights and bias are centred. The
variance is then the mean of squares, a product with a row of 1/C, and all else works on (B, C, pixels) as it lies in
memory. TensorRT keeps the native operator as one layer, so this form is for the CPU alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import RewriteRuleClassBase, RewriteRuleSet


def fold_channel_norm(model: ir.Model) -> int:
    """Rewrite every (Conv, to channels last, LayerNorm, Gelu, pixels flattened, back to channels first).

    Returns how many were found. Weights, bias, scale and shift must be constants.
    """
    return RewriteRuleSet([_FoldChannelNorm.rule()]).apply_to_model(model)  # type: ignore[no-untyped-call]


class _FoldChannelNorm(RewriteRuleClassBase):
    def pattern(self, op: Any, x: Any, weight: Any, bias: Any, scale: Any, shift: Any, shape: Any) -> Any:
        conv = op.Conv(x, weight, bias, _outputs=["conv"])
        norm = op.LayerNormalization(op.Transpose(conv, perm=[0, 2, 3, 1]), scale, shift, _outputs=["norm"])
        return op.Transpose(op.Reshape(op.Gelu(norm), shape), perm=[0, 2, 1])

    def check(self, context: Any, weight: ir.Value, bias: ir.Value, scale: ir.Value, shift: ir.Value, **_: Any) -> bool:  # type: ignore[override]
        return all(value.const_value is not None for value in (weight, bias, scale, shift))

    def rewrite(
        self,
        op: Any,
        x: ir.Value,
        weight: ir.Value,
        bias: ir.Value,
        scale: ir.Value,
        shift: ir.Value,
        shape: ir.Value,
        conv: ir.Value,
        norm: ir.Value,
    ) -> Any:
        kernel, offset = (_array(value).astype(np.float64) for value in (weight, bias))
        channels = len(offset)
        name = str(conv.name)

        def constant(array: Any, role: str) -> ir.Value:
            return op.initializer(ir.tensor(np.asarray(array, np.float32)), name=f"{name}/{role}")

        centred = constant(kernel - kernel.mean(axis=0), "weight"), constant(offset - offset.mean(), "bias")
        pixels = op.Reshape(
            op.Conv(x, *centred, **_attributes(conv)), op.Constant(value_ints=[0, channels, -1])
        )  # (B, C, H*W)
        mean_square = op.MatMul(constant(np.full((1, channels), 1 / channels), "mean"), op.Mul(pixels, pixels))
        epsilon = constant(_attributes(norm)["epsilon"].as_float(), "epsilon")
        normed = op.Mul(pixels, op.Reciprocal(op.Sqrt(op.Add(mean_square, epsilon))))
        columns = (constant(_array(value)[:, None], role) for value, role in ((scale, "scale"), (shift, "shift")))
        return op.Gelu(op.Add(op.Mul(normed, next(columns)), next(columns)))


def _array(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy()


def _attributes(value: ir.Value) -> dict[str, ir.Attr]:
    node = value.producer()
    assert node is not None
    return dict(node.attributes)
