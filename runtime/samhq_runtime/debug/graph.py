"""An ONNX graph as bisection needs it: which values there are, in what order, and what each is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from polygraphy.backend.onnx import OnnxFromPath
from polygraphy.logger import G_LOGGER

from ..contract import Array

_FLOATS: dict[int, np.dtype[Any]] = {1: np.dtype(np.float32), 10: np.dtype(np.float16)}  # of TensorProto.DataType


@dataclass(frozen=True)
class GraphFile:
    """A graph on disk; its weights are not read."""

    path: Path

    @cached_property
    def proto(self) -> Any:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
            return OnnxFromPath(str(self.path), ignore_external_data=True)()

    @cached_property
    def producers(self) -> dict[str, Any]:
        """The node that makes each value, in the order of the graph."""
        return {name: node for node in self.proto.graph.node for name in node.output if name}

    @cached_property
    def floats(self) -> frozenset[str]:
        """Values known to be float32 or float16, but for products of quantized operands that are yet to be scaled."""
        known = (*self.proto.graph.value_info, *self.proto.graph.output)
        names = {node.name for node in self.proto.graph.node}
        unscaled = {name for name, node in self.producers.items() if f"{node.name}/columns" in names}
        return frozenset(v.name for v in known if v.type.tensor_type.elem_type in _FLOATS) - unscaled

    def feeds(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Those that are inputs here, in the types of the inputs."""
        types = {value.name: value.type.tensor_type.elem_type for value in self.proto.graph.input}
        taken = {name: array for name, array in arrays.items() if name in types}
        return {n: a.astype(_FLOATS[types[n]]) if types[n] in _FLOATS else a for n, a in taken.items()}

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.proto.graph.output]

    def ancestors(self, values: Iterable[str], among: Collection[str]) -> list[str]:
        """Those of `among` that `values` are computed from, themselves included, in the order of the graph."""
        found, waiting = set(), list(values)
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.producers:
                found.add(name)
                waiting.extend(self.producers[name].input)
        return [name for name in self.producers if name in found and name in among]
