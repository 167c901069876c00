"""A graph beside its form for ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from ..onnx_files import save_graph
from ..passes.fold_channel_norm import fold_channel_norm
from ..passes.fuse_attention import fuse_attention


def save_with_cpu_form(model: ir.Model, path: Path) -> Path | None:
    """`save_graph`, and beside it `<name>.cpu.onnx` for ONNX Runtime's CPU provider, on the same weights.

    Returns:
        The second file, or None if that provider has nothing better for this graph.
    """
    cpu_form = model.clone()
    changed = fuse_attention(cpu_form) + fold_channel_norm(cpu_form)
    save_graph(model, path, weights_beside=changed > 0)
    if not changed:
        return None
    weights = ir.load(path).graph.initializers
    for name, value in cpu_form.graph.initializers.items():
        if name in weights:
            value.const_value = weights[name].const_value
    cpu_path = path.with_suffix(".cpu.onnx")
    ir.save(cpu_form, cpu_path)
    return cpu_path
