"""What every shipped graph must and must not contain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from samhq_exporter.passes.rules import FORBIDDEN, check_rules
from samhq_runtime.errors import GraphError
from tests.support.small_graphs import chain, model, node, value, weight


def fusion(op_type: str = "Mul", names: Sequence[str] = ("sam_token", "hq_token"), used: bool = True) -> ir.Model:
    x, y, fused = value("x"), value("y"), value("fused", (1, 4))
    tokens = [weight(name, np.full((1, 4), 2 + i, np.float32)) for i, name in enumerate(names)]
    nodes = [
        node(op_type, tokens, fused, f"/token_fusion/{op_type}"),
        node("Add", [x, fused if used else tokens[1]], y, "/Add"),
    ]
    return model(nodes, [x, tokens[1]], [y], tokens)


BROKEN_FUSIONS = {
    "another operator": ({"op_type": "Add"}, "node /token_fusion/Mul is missing"),
    "twice the same token": ({"names": ("hq_token_2", "hq_token")}, "expected the two tokens"),
    "not the tokens": ({"names": ("sam_token", "x_token")}, "expected the two tokens"),
    "result unused": ({"used": False}, "is not used"),
}


@pytest.mark.parametrize("case", BROKEN_FUSIONS)
def test_rules_on_a_broken_fusion(case: str) -> None:
    change, complaint = BROKEN_FUSIONS[case]
    with pytest.raises(GraphError, match=complaint):
        check_rules(fusion(**change), token_fusion="hadamard")  # type: ignore[arg-type]


def test_rules_want_initializers_as_operands() -> None:
    built = fusion()
    del built.graph.initializers["hq_token"]
    with pytest.raises(GraphError, match="expected the two tokens"):
        check_rules(built, token_fusion="hadamard")


@pytest.mark.parametrize(
    ("built", "token_fusion"),
    [(fusion(), "hadamard"), (fusion("Add"), "sum"), (chain(), "independent")],
)
def test_rules_are_met(built: ir.Model, token_fusion: str) -> None:
    check_rules(built, token_fusion=token_fusion)


@pytest.mark.parametrize("op_type", sorted(FORBIDDEN))
def test_rules_on_forbidden_operators(op_type: str) -> None:
    x, y = value("x"), value("y")
    with pytest.raises(GraphError, match=f"contains {op_type}"):
        check_rules(model([node(op_type, [x], y)], [x], [y]), token_fusion="independent")


@pytest.mark.parametrize("token_fusion", ["sum", "hadamard"])
def test_a_graph_that_lost_its_fusion_does_not_pass(token_fusion: str) -> None:
    with pytest.raises(GraphError, match="/token_fusion/"):
        check_rules(chain(), token_fusion=token_fusion)
