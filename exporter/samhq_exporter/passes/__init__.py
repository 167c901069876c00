"""Graph passes: functions that change an `ir.Model` in place, with stated pre- and postconditions, one per file.

In: a graph. Out: the same graph, rewritten, or GraphError. Imports the contract alone.
"""

from __future__ import annotations

import onnx_ir as ir

from .cleanup import clean_up
from .rules import check_rules
from .simplify_shapes import simplify_expands, simplify_reshapes

__all__ = ["check_rules", "simplify"]


def simplify(model: ir.Model) -> None:
    """The float32 graph every precision starts from."""
    clean_up(model)
    simplify_reshapes(model)
    simplify_expands(model)
    clean_up(model)
