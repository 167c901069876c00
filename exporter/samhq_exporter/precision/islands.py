"""Which nodes float16 cannot hold: measured ranges in, float32 islands out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from samhq_runtime.errors import GraphError

from ..passes.matching import matches_any
from ..passes.operators import PRODUCTS
from .policy import PrecisionPolicy

FLOAT16_MAX = 65504.0
SAFETY = 8.0
"""How much larger than anything measured a value may become before float16 overflows: other images, other prompts."""
_SMALLEST_NORMAL = 2.0**-14
_WEIGHT_ERROR = 4e-3  # of its norm; float16 keeps 3e-4 of a weight in its normal range
_FLOAT = ir.DataType.FLOAT


def float16_islands(model: ir.Model, largest: Mapping[str, float], policy: PrecisionPolicy) -> dict[str, float]:
    """Nodes that must stay float32 besides those `policy` names, and the magnitude that says so.

    1. An input or output that was measured within a factor `SAFETY` of float16's largest value, or wholly below its
    smallest normal one. 2. A weight that float16 cannot hold, or not closely.
    """
    islands = {}
    for node in model.graph:
        if matches_any(node, policy.islands) or not is_float(node):
            continue
        magnitude = largest_of(node, largest)
        result = max(largest.get(str(value.name), 0.0) for value in node.outputs)
        tiny = node.op_type in PRODUCTS and 0 < result < _SMALLEST_NORMAL
        weight = max((_weight_misfit(v) for v in _weights(node)), default=0.0)
        if magnitude * SAFETY > FLOAT16_MAX or tiny or weight:
            islands[str(node.name)] = max(magnitude, weight)
    return islands


def require_half_io(model: ir.Model, largest: Mapping[str, float], half_io: frozenset[str]) -> None:
    """Raise GraphError if an output that leaves the graph in float16 does not fit it."""
    for value in model.graph.outputs:
        if value.name in half_io and largest[value.name] * SAFETY > FLOAT16_MAX:
            raise GraphError(
                f"{model.graph.name}: {value.name} reaches {largest[value.name]:.3g}, too close to float16's "
                f"{FLOAT16_MAX:g} (a factor {SAFETY:g} is kept); export with --precision bf16 or fp32"
            )


def largest_of(node: ir.Node, largest: Mapping[str, float]) -> float:
    """The largest magnitude among a node's measured inputs and outputs."""
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    return max((largest.get(str(value.name), 0.0) for value in values), default=0.0)


def is_float(node: ir.Node) -> bool:
    """Whether an input or output is float32 before the graph is typed."""
    return any(value is not None and value.dtype == _FLOAT for value in (*node.inputs, *node.outputs))


def _weights(node: ir.Node) -> Iterator[ir.Value]:
    for value in node.inputs:
        if value is not None and value.const_value is not None and value.dtype == _FLOAT:
            yield value


def _weight_misfit(value: ir.Value) -> float:
    """The largest magnitude of a weight that does not survive float16; 0 if it does."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.linalg.norm(array - array.astype(np.float16).astype(np.float32))
    survives = error <= _WEIGHT_ERROR * np.linalg.norm(array)  # False for infinite and NaN too
    return 0.0 if survives else float(np.abs(array).max())
