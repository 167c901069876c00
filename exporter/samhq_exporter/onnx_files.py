"""One ONNX graph on disk."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

_INLINE_LIMIT = 1 << 30  # protobuf ends at 2 GiB; larger weights go to one `.data` file beside the graph


def save_graph(model: ir.Model, path: Path, *, weights_beside: bool = False) -> None:
    """Write `path`, and `<path>.data` beside it if the weights are large or `weights_beside` is set."""
    weights = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    beside = weights_beside or weights > _INLINE_LIMIT
    ir.save(model, path, external_data=f"{path.name}.data" if beside else None)
