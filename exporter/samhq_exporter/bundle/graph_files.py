"""A graph beside its form for ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..onnx_files import save_graph


def save_forms(model: ir.Model, cpu_form: ir.Model, path: Path) -> Path:
    """Write `path`, its weights beside it, and `<name>.cpu.onnx` on the same weights; returns the second file.

    Weights that only the second form has are in its own file.
    """
    save_graph(model, path, weights_beside=True)
    weights = ir.load(path).graph.initializers
    for name, value in cpu_form.graph.initializers.items():
        if name in weights and _equal(weights[name], value):
            value.const_value = weights[name].const_value
    cpu_path = path.with_suffix(".cpu.onnx")
    ir.save(cpu_form, cpu_path)
    return cpu_path


def _equal(a: ir.Value, b: ir.Value) -> bool:
    assert a.const_value is not None
    assert b.const_value is not None
    return a.dtype == b.dtype and np.array_equal(a.const_value.numpy(), b.const_value.numpy())
