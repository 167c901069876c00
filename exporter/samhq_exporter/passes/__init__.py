"""Graph passes: functions `ir.Model -> None` with stated pre- and postconditions, one per file."""

from __future__ import annotations

import onnx_ir as ir

from samhq_runtime.errors import GraphError

from ..precision import PrecisionPolicy
from .cleanup import clean_up
from .half import to_half
from .int8 import to_int8
from .rules import check_rules
from .shapes import simplify_expands, simplify_reshapes

__all__ = ["apply_policy", "check_rules", "simplify"]


def simplify(model: ir.Model) -> None:
    """The float32 graph every precision starts from."""
    clean_up(model)
    simplify_reshapes(model)
    simplify_expands(model)
    clean_up(model)


def apply_policy(model: ir.Model, *, policy: PrecisionPolicy, half_io: frozenset[str]) -> None:
    """Type a simplified float32 graph.

    Args:
        model: as `simplify` leaves it; changed in place.
        policy: compute type, fp32 islands and int8 layers.
        half_io: graph inputs and outputs that take the compute type; all others stay float32.

    Raises:
        GraphError: a weight does not fit the compute type, or an island matches nothing.
    """
    if policy.compute in ("float16", "bfloat16"):
        to_half(
            model,
            compute=policy.compute,
            islands=policy.islands,
            half_io=half_io,
            island_nodes=policy.measured_islands,
        )
    elif policy.compute != "float32":
        raise GraphError(f"no pass for compute type {policy.compute}")
    if policy.int8_layers:
        to_int8(model, layers=policy.int8_layers)
