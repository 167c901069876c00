"""What is folded, and what must not be."""

from __future__ import annotations

import numpy as np

from samhq_exporter.passes.cleanup import clean_up
from tests.support.small_graphs import model, node, run, value, weight


def test_clean_up_folds_constants_but_not_the_token_fusion() -> None:
    x, y = value("x"), value("y")
    a, b, c = value("a", (4,)), value("b", (4,)), value("c", (4,))
    v, w = (weight(name, np.full(4, number, np.float32)) for name, number in (("v", 2), ("w", 3)))
    nodes = [
        node("Mul", [v, w], a, "/token_fusion/Mul"),
        node("Add", [v, w], b, "/elsewhere/Add"),
        node("Mul", [x, a], c, "/Mul_1"),
        node("Add", [c, b], y, "/Add_1"),
    ]
    built = model(nodes, [x], [y], [v, w])
    clean_up(built)
    assert [n.name for n in built.graph] == ["/token_fusion/Mul", "/Mul_1", "/Add_1"]
    np.testing.assert_array_equal(run(built, x=np.ones((1, 4), np.float32))[0], np.full((1, 4), 11))
