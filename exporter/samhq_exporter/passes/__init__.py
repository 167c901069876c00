"""Graph passes: functions `ir.Model -> None` with stated pre- and postconditions, one per file."""

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
