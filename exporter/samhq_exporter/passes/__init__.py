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

__all__ = ["apply_policy", "check_rules", "run_passes", "simplify"]


def run_passes(model: ir.Model, *, policy: PrecisionPolicy, half_io: frozenset[str], token_fusion: str) -> ir.Model:
    """Traced float32 graph -> the graph that ships, in the precision of `policy`; rules checked at the end.

    Args:
        model: as `trace` returns it; changed in place.
        policy: compute type, fp32 islands and int8 layers.
        half_io: graph inputs and outputs that take the compute type; all others stay float32.
        token_fusion: whose node the decoder must contain.

    Raises:
        GraphError: a weight does not fit the compute type, an island matches nothing, or a rule is broken.
    """
    simplify(model)
    apply_policy(model, policy=policy, half_io=half_io)
    check_rules(model, token_fusion=token_fusion)
    return model


def simplify(model: ir.Model) -> None:
    """The float32 graph every precision starts from."""
    clean_up(model)
    simplify_reshapes(model)
    simplify_expands(model)
    clean_up(model)


def apply_policy(model: ir.Model, *, policy: PrecisionPolicy, half_io: frozenset[str]) -> None:
    """Type a simplified float32 graph."""
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
