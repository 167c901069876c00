"""Operands of one width: the same result, and only where something has to be done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from samhq_exporter.passes.pad_attention import pad_attention

HEADS, TOKENS = 3, 7


def attention(width: int, value_width: int, *, between: str = "Identity", behind: str = "") -> ir.Model:
    """softmax(Q K^T) V from (B, tokens, heads, width) and back."""
    text = f"""
        <ir_version: 9, opset_import: ["" : 20]>
        graph (float[b,{TOKENS},{HEADS},{width}] q, float[b,{TOKENS},{HEADS},{width}] k,
               float[b,{TOKENS},{HEADS},{value_width}] v) => (float[b,{TOKENS},{HEADS},{value_width}] out) {{
            [q1] q1 = Transpose <perm=[0,2,1,3]> (q)
            [k1] k1 = Transpose <perm=[0,2,3,1]> (k)
            [v1] v1 = Transpose <perm=[0,2,1,3]> (v)
            [scores] scores = MatMul (q1, k1)
            [given] given = {between} (scores)
            [softmax] weights = Softmax <axis=-1> ({"given" if between != "Identity" else "scores"})
            [pooled] pooled = MatMul (weights, v1)
            [out] out = Transpose <perm=[0,2,1,3]> (pooled)
        }}"""
    model = ir.from_onnx_text(text)
    for node in model.graph:
        for output in node.outputs:
            output.type = ir.TensorType(ir.DataType.FLOAT)
    shapes = {"q1": width, "v1": value_width, "pooled": value_width}
    for node in model.graph:
        if node.name in shapes:
            node.outputs[0].shape = ir.Shape(["b", HEADS, TOKENS, shapes[str(node.name)]])
    return model


def run(model: ir.Model, feeds: dict[str, np.ndarray], folder: Path) -> np.ndarray:
    ir.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize(
    ("width", "value_width", "padded"),
    [
        (13, 5, 16),  # queries and keys are wider, and no multiple of 8
        (16, 8, 16),  # only the values need it
        (13, 13, 16),
        (5, 13, 16),
        (16, 16, None),  # nothing to do
        (8, 8, None),
    ],
)
def test_widths(width: int, value_width: int, padded: int | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.normal(size=(2, TOKENS, HEADS, size)).astype(np.float32)
        for name, size in (("q", width), ("k", width), ("v", value_width))
    }
    model = attention(width, value_width)
    expected = run(model, feeds, tmp_path)
    before = [node.name for node in model.graph]
    assert pad_attention(model) == (padded is not None)
    np.testing.assert_allclose(run(model, feeds, tmp_path), expected, atol=1e-6)
    if padded is None:
        assert [node.name for node in model.graph] == before
        return
    shapes = {str(node.name): node.outputs[0].shape for node in model.graph}
    assert {tuple(shapes[name])[-1] for name in ("q1", "v1", "pooled")} == {padded}
    if width != padded:
        assert tuple(shapes["k1"])[2] == padded
    assert pad_attention(model) == 0


def test_what_is_no_plain_attention_stays() -> None:
    model = attention(13, 5, between="Relu")
    assert pad_attention(model) == 0
    assert not {"Pad", "Slice"} & {node.op_type for node in model.graph}
