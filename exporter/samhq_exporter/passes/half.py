"""float32 graph -> typed float16 or bfloat16 graph with named float32 islands."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from samhq_runtime.errors import GraphError

from .build import drop_unused_initializers, new_cast, new_initializer
from .matching import matches_any, unused

_FLOAT = ir.DataType.FLOAT
_HALF_TYPES = {
    "float16": (ir.DataType.FLOAT16, np.dtype(np.float16), "fp16"),
    "bfloat16": (ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16), "bf16"),
}


def to_half(
    model: ir.Model,
    *,
    compute: str,
    islands: Sequence[str],
    half_io: Collection[str] = (),
    island_nodes: Collection[str] = (),
) -> None:
    """Give every float32 value a precision: `compute` by default, float32 in islands; Casts only where they meet.

    Args:
        model: float32, every value typed; changed in place.
        compute: `float16` or `bfloat16`.
        islands: patterns (see `matches`) of the nodes that stay float32.
        half_io: graph inputs and outputs that take the compute type; all others stay float32.
        island_nodes: full names of further nodes that stay float32.

    Raises:
        GraphError: an island that matches no node (a stale policy), or a weight outside the type's range.
    """
    stale = unused(islands, model.graph)
    if stale:
        raise GraphError(
            f"{model.graph.name}: {', '.join(stale)} match no node; a pattern of the precision policy is stale or "
            "mistyped (`--precision-report` lists the nodes)"
        )
    unknown = sorted(set(island_nodes) - {node.name for node in model.graph})
    if unknown:
        raise GraphError(f"{model.graph.name}: no nodes {', '.join(unknown)}, which were measured to need float32")
    _Rewriter(model.graph, compute, islands, frozenset(island_nodes), half_io).run()


class _Rewriter:
    """One walk over the graph; `dtype` of a value after the walk is its real one."""

    def __init__(
        self,
        graph: ir.Graph,
        compute: str,
        islands: Sequence[str],
        island_nodes: frozenset[str],
        half_io: Collection[str],
    ) -> None:
        self.graph = graph
        self.half, self.numpy_half, self.suffix = _HALF_TYPES[compute]
        self.compute = compute
        self.islands = islands
        self.island_nodes = island_nodes
        self.half_io = half_io
        self.converted: dict[tuple[int, ir.DataType], ir.Value] = {}

    def run(self) -> None:
        for value in self.graph.inputs:
            if value.name in self.half_io:
                value.type = ir.TensorType(self.half)
        for node in list(self.graph):
            if any(v is not None and v.dtype == _FLOAT for v in (*node.inputs, *node.outputs)) or self._is_half(node):
                self._retype(node)
        for index, value in enumerate(self.graph.outputs):
            self._fix_output(index, value)
        drop_unused_initializers(self.graph)

    def _is_half(self, node: ir.Node) -> bool:
        return any(v is not None and v.dtype == self.half for v in node.inputs)

    def _is_island(self, node: ir.Node) -> bool:
        return node.name in self.island_nodes or matches_any(node, self.islands)

    def _retype(self, node: ir.Node) -> None:
        """Bring the node's float inputs to its precision and mark its float outputs with it."""
        want = _FLOAT if self._is_island(node) else self.half
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (_FLOAT, self.half) and value.dtype != want:
                node.replace_input_with(index, self._as(value, want, node))
        if node.op_type == "Cast" and node.attributes["to"].as_int() == _FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", int(want))
        for output in node.outputs:
            if output.dtype == _FLOAT:
                output.type = ir.TensorType(want)

    def _as(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        """`value` in `dtype`: a converted copy of an initializer, else one shared Cast."""
        key = (id(value), dtype)
        if key not in self.converted:
            constant = value.const_value is not None and not value.is_graph_input()
            self.converted[key] = self._half_weight(value) if constant else self._cast(value, dtype, before)
        return self.converted[key]

    def _half_weight(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        array = rounded(value.const_value.numpy(), self.numpy_half)
        if not np.isfinite(array.astype(np.float32)).all():
            largest = float(ml_dtypes.finfo(self.numpy_half).max)  # type: ignore[no-untyped-call]
            raise GraphError(
                f"{self.graph.name}: weight {value.name} has values beyond {self.compute} "
                f"({largest:g}); export with --precision fp32, "
                "or keep its node in an fp32 island"
            )
        return new_initializer(self.graph, f"{value.name}.{self.suffix}", array)

    def _cast(self, value: ir.Value, dtype: ir.DataType, before: ir.Node | None) -> ir.Value:
        suffix = self.suffix if dtype == self.half else "fp32"
        node = new_cast(value, dtype, f"{value.name}/to_{suffix}")
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, node)
        elif before is not None:
            self.graph.insert_before(before, node)
        return node.outputs[0]

    def _fix_output(self, index: int, value: ir.Value) -> None:
        """Graph outputs keep name and float32, unless they are listed as half."""
        want = self.half if value.name in self.half_io else _FLOAT
        if value.dtype == want or value.dtype not in (_FLOAT, self.half):
            return
        cast = self._cast(value, want, None)
        name = value.name
        value.name, cast.name = f"{name}/raw", name
        self.graph.outputs[index] = cast


def rounded(array: NDArray[np.float32], dtype: np.dtype) -> NDArray[np.generic]:
    """`array` in `dtype`, rounded to nearest; infinite where it does not fit."""
    with np.errstate(over="ignore"):
        return np.asarray(array.astype(dtype))
