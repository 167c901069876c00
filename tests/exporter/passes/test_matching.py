"""Patterns of the precision policies."""

from __future__ import annotations

import pytest

from samhq_exporter.passes.matching import matches, matches_any, unused
from tests.support.small_graphs import node, value


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("Softmax", True),  # an operator type
        ("softmax", False),
        ("Soft", False),
        ("/attn/", True),  # a part of the name
        ("/blocks.1/attn/Softmax", True),
        ("attn/Softmax", False),  # neither
        ("*/attn/*", True),  # a glob of the whole name
        ("*/Softmax", True),
        ("attn*", False),
        ("/blocks.[12]/*", True),
        ("", False),
    ],
)
def test_matches(pattern: str, expected: bool) -> None:
    assert matches(node("Softmax", [value("x")], value("y"), "/blocks.1/attn/Softmax"), pattern) is expected


def test_unused_patterns() -> None:
    nodes = [node("Mul", [value("x")], value("y"), "/first/Mul"), node("Add", [value("y")], value("z"), "/last/Add")]
    assert unused(("/first/", "Sub", "*/Add", "/middle/"), iter(nodes)) == ["Sub", "/middle/"]
    assert matches_any(nodes[0], ("Sub", "Mul"))
    assert not matches_any(nodes[0], ())
