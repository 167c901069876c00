"""`--precision-report`: every node's range and what it computes in, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from samhq_runtime.tables import format_table

from ..passes.matching import matches
from ..passes.operators import MOVES
from .islands import FLOAT16_MAX, is_float, largest_of
from .policy import PrecisionPolicy

_LEFT_OUT = MOVES | {"Cast"}  # their ranges are those of the nodes around them


@dataclass(frozen=True)
class Decision:
    """One node of the precision report; `largest` is the magnitude of its inputs and outputs."""

    graph: str
    node: str
    op_type: str
    largest: float
    precision: str
    reason: str


def decisions(model: ir.Model, largest: Mapping[str, float], policy: PrecisionPolicy) -> Iterator[Decision]:
    """The precision report of one graph, in the order of its nodes."""
    for node in model.graph:
        if is_float(node):
            precision, reason = _decision(node, policy)
            yield Decision(
                str(model.graph.name), str(node.name), node.op_type, largest_of(node, largest), precision, reason
            )


def format_report(rows: Iterable[Decision]) -> str:
    """One line per node that computes; headroom is how often the largest magnitude fits into float16's range."""
    lines = [
        (row.node, row.op_type, f"{row.largest:.3g}", _headroom(row.largest), row.precision, row.reason)
        for row in rows
        if row.op_type not in _LEFT_OUT
    ]
    return format_table(("node", "operator", "max |x|", "headroom", "precision", "reason"), lines)


def _headroom(largest: float) -> str:
    return f"{FLOAT16_MAX / largest:.3g}x" if largest else "-"


def _decision(node: ir.Node, policy: PrecisionPolicy) -> tuple[str, str]:
    name = str(node.name)
    if name in policy.quantized_layers:
        return policy.number, "scale " + ", ".join(f"{scale:.3g}" for scale in policy.quantized_layers[name])
    for kind, patterns in (("--keep-fp32", policy.keep_fp32), ("stated", policy.fp32_islands)):
        found = next((pattern for pattern in patterns if matches(node, pattern)), None)
        if found is not None:
            return "float32", f"{kind} {found}"
    return ("float32", "measured") if name in policy.measured_islands else (policy.compute, "")
