"""One traced graph -> the forms that ship: the portable one, typed for GPUs, and one for CPUs where they want another.

| | portable | for CPUs |
| --- | --- | --- |
| arithmetic | the policy's | float32 outside of quantized products |
| attention in half precision | of one width, for TensorRT's fused kernel | ONNX Runtime's operator, any width |
| scales of a quantized weight's columns | behind the product | in DequantizeLinear |
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from samhq_runtime.errors import GraphError

from ..passes import check_rules
from ..passes.fold_channel_norm import fold_channel_norm
from ..passes.fuse_attention import fuse_attention
from ..passes.half import to_half
from ..passes.matching import matches_any
from ..passes.pad_attention import pad_attention, padded_node
from ..passes.quantize import quantization_of, quantize
from .policy import TABLE, PrecisionPolicy

_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class TypedGraph:
    """A graph as it ships, the policy it follows, and its form for CPUs; None if they have nothing better."""

    model: ir.Model
    policy: PrecisionPolicy
    cpu: ir.Model | None = None


def type_graph(model: ir.Model, policy: PrecisionPolicy, *, precision: str, token_fusion: str) -> TypedGraph:
    """A traced graph in its final types, changed in place; `precision` says what its inputs, outputs and opset are.

    Raises:
        GraphError: the graph cannot follow the policy, or breaks a rule.
    """
    row = TABLE[precision]
    cpu = _cpu_form(model.clone(), policy) if row.cpu_form else None
    apply_policy(model, policy=policy, half_io=row.half_io)
    if row.opset is not None:
        model.opset_imports[""] = row.opset
    check_rules(model, token_fusion=token_fusion)
    return TypedGraph(model, policy, cpu)


def apply_policy(model: ir.Model, *, policy: PrecisionPolicy, half_io: frozenset[str]) -> None:
    """Type a simplified float32 graph for GPUs.

    Args:
        model: as `simplify` leaves it; changed in place.
        policy: compute type, float32 islands and quantized layers.
        half_io: graph inputs and outputs that take the compute type; all others stay float32.

    Raises:
        GraphError: a weight does not fit the compute type, or an island matches nothing.
    """
    half = policy.compute in _HALF
    if not half and policy.compute != "float32":
        raise GraphError(f"no pass for compute type {policy.compute}")
    if half:
        pad_attention(model)
    if policy.quantized_layers:
        quantize(model, layers=policy.quantized_layers, number=policy.number, scaled_products=half)
    if half:
        to_half(
            model,
            compute=policy.compute,
            islands=policy.islands,
            half_io=half_io,
            island_nodes=_islands(model, policy),
        )


def _islands(model: ir.Model, policy: PrecisionPolicy) -> set[str]:
    """The measured islands, and the nodes that padding and quantization have put around them."""
    names = set(policy.measured_islands)
    products = [node for node in model.graph if node.name in policy.quantized_layers]
    islands = [node for node in products if node.name in names or matches_any(node, policy.islands)]
    around = {str(node.name) for product in islands for node in quantization_of(product)}
    return names | around | {str(node.name) for node in model.graph if padded_node(node) in names}


def _cpu_form(model: ir.Model, policy: PrecisionPolicy) -> ir.Model | None:
    """`model`, changed in place; None if it would be the portable form itself."""
    if policy.quantized_layers:
        quantize(model, layers=policy.quantized_layers, number=policy.number)
    changed = fuse_attention(model) + fold_channel_norm(model)
    return model if changed or policy.compute != "float32" else None
