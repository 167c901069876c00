"""`--precision-report`: every node's range and what it computes in, as a table."""

from __future__ import annotations

from collections.abc import Iterable

from samhq_runtime.tables import format_table

from ..passes.operators import MOVES
from .measured import FLOAT16_MAX, Decision

_LEFT_OUT = MOVES | {"Cast"}  # their ranges are those of the nodes around them


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
