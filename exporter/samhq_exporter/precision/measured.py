"""The measured part of a precision policy: ranges in, islands and int8 scales out, and the table that shows why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from samhq_runtime.errors import GraphError

from ..passes.matching import matches, matches_any
from ..passes.quantize import weight_of
from .policy import PrecisionPolicy

FLOAT16_MAX = 65504.0
SAFETY = 8.0
"""How much larger than anything measured a value may become before float16 overflows: other images, other prompts."""
_SMALLEST_NORMAL = 2.0**-14
_WEIGHT_ERROR = 4e-3  # of its norm; float16 keeps 3e-4 of a weight in its normal range
_FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class Decision:
    """One node of the precision report; `largest` is the magnitude of its inputs and outputs."""

    graph: str
    node: str
    op_type: str
    largest: float
    precision: str
    reason: str


def quantizable_nodes(model: ir.Model, fragment: str, keep_fp32: tuple[str, ...]) -> list[ir.Node]:
    """The products whose name has `fragment` and that are quantized, less those the user keeps in float32.

    All with a constant weight. Those of attention stay: fused kernels never write their scores to memory, which gains
    more than int8 would, and most values of a softmax lie below one int8 step.

    Raises:
        GraphError: there is none: a stale policy, or all of them are kept in float32.
    """
    found = [node for node in model.graph if fragment in (node.name or "") and weight_of(node) is not None]
    nodes = [node for node in found if not matches_any(node, keep_fp32)]
    if not nodes:
        raise GraphError(
            f"{model.graph.name}: no layer to quantize among {len(found)} MatMul nodes named *{fragment}*; "
            "keep fewer in float32, or export with another --precision"
        )
    return nodes


def float16_islands(model: ir.Model, largest: Mapping[str, float], policy: PrecisionPolicy) -> dict[str, float]:
    """Nodes that must stay float32 besides those `policy` names, and the magnitude that says so.

    1. An input or output that was measured within a factor `SAFETY` of float16's largest value, or wholly below its
    smallest normal one. 2. A weight that float16 cannot hold, or not closely.
    """
    islands = {}
    for node in model.graph:
        if matches_any(node, policy.islands) or not _is_float(node):
            continue
        magnitude = largest_of(node, largest)
        tiny = _computes(node) and 0 < max(largest.get(str(v.name), 0.0) for v in node.outputs) < _SMALLEST_NORMAL
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


def decisions(model: ir.Model, largest: Mapping[str, float], policy: PrecisionPolicy) -> Iterator[Decision]:
    """The precision report of one graph, in the order of its nodes."""
    for node in model.graph:
        if _is_float(node):
            precision, reason = _decision(node, policy)
            yield Decision(
                str(model.graph.name), str(node.name), node.op_type, largest_of(node, largest), precision, reason
            )


def largest_of(node: ir.Node, largest: Mapping[str, float]) -> float:
    """The largest magnitude among a node's measured inputs and outputs."""
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    return max((largest.get(str(value.name), 0.0) for value in values), default=0.0)


def _decision(node: ir.Node, policy: PrecisionPolicy) -> tuple[str, str]:
    name = str(node.name)
    if name in policy.quantized_layers:
        return policy.number, "scale " + ", ".join(f"{scale:.3g}" for scale in policy.quantized_layers[name])
    for kind, patterns in (("--keep-fp32", policy.keep_fp32), ("stated", policy.fp32_islands)):
        found = next((pattern for pattern in patterns if matches(node, pattern)), None)
        if found is not None:
            return "float32", f"{kind} {found}"
    return ("float32", "measured") if name in policy.measured_islands else (policy.compute, "")


def _is_float(node: ir.Node) -> bool:
    return any(value is not None and value.dtype == _FLOAT for value in (*node.inputs, *node.outputs))


def _computes(node: ir.Node) -> bool:
    return node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose")


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
