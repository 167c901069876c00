"""What every shipped graph must and must not contain."""

from __future__ import annotations

import onnx_ir as ir

from samhq_runtime.contract import MASK_DECODER
from samhq_runtime.errors import GraphError

from ..architecture import TOKEN_FUSIONS
from .cleanup import TOKEN_FUSION

# Data-dependent control flow, or operators that TensorRT cannot parse or runs slowly.
FORBIDDEN = frozenset({"If", "Loop", "Scan", "OneHot", "NonZero", "ScatterND", "Tile", "Range"})
FUSION_NODES = {name: f"{TOKEN_FUSION}{operator}" for name, operator in TOKEN_FUSIONS.items() if operator}
_FUSION_OPERANDS = {"sam_token", "hq_token"}


def check_rules(model: ir.Model, *, token_fusion: str) -> None:
    """Raise GraphError for a forbidden operator, or a decoder without its live token fusion."""
    found = sorted({node.op_type for node in model.graph} & FORBIDDEN)
    if found:
        raise GraphError(f"{model.graph.name}: contains {', '.join(found)}, which the runtimes must not need")
    if model.graph.name == MASK_DECODER and token_fusion in FUSION_NODES:
        _check_fusion(model.graph, FUSION_NODES[token_fusion])


def _check_fusion(graph: ir.Graph, name: str) -> None:
    node = next((n for n in graph if n.name == name), None)
    if node is None or node.op_type != name.rsplit("/", 1)[1]:
        raise GraphError(f"{graph.name}: node {name} is missing; the HQ token would not be fused with the SAM token")
    operands = {value.name for value in node.inputs if value is not None}
    if operands != _FUSION_OPERANDS or not operands <= graph.initializers.keys():
        raise GraphError(f"{graph.name}: {name} is fed by {sorted(map(str, operands))}, expected the two tokens")
    if not node.outputs[0].uses():
        raise GraphError(f"{graph.name}: the result of {name} is not used")
