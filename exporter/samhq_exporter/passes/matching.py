"""Which nodes a pattern of a precision policy names."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import onnx_ir as ir


def matches(node: ir.Node, pattern: str) -> bool:
    """Whether `pattern` names `node`.

    1. With a `*`: a glob of the whole node name. 2. Starting with `/`: a part of the node name.
    3. Else: an operator type.
    """
    name = node.name or ""
    if "*" in pattern:
        return fnmatchcase(name, pattern)
    return pattern in name if pattern.startswith("/") else node.op_type == pattern


def matches_any(node: ir.Node, patterns: Iterable[str]) -> bool:
    return any(matches(node, pattern) for pattern in patterns)


def unused(patterns: Iterable[str], nodes: Iterable[ir.Node]) -> list[str]:
    """The patterns that name none of `nodes`: stale, or mistyped."""
    nodes = list(nodes)
    return [pattern for pattern in patterns if not any(matches(node, pattern) for node in nodes)]
