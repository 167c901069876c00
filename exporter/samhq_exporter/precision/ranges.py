"""Activation ranges: the float32 graph runs on calibration images, and every value's extremes are kept.

Extremes are computed inside the graph and leave it as scalars, so memory is that of an ordinary run whatever the size
of the model; of the few values an int8 scale is wanted for, a regular sample of a bounded size comes out too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from samhq_runtime.contract import Array
from samhq_runtime.errors import GraphError

from ..onnx_files import save_graph
from ..passes.build import new_initializer, new_node

_SAMPLE_SIZE = 1 << 16  # values per tensor and run
_FLOAT = ir.DataType.FLOAT
_LOW, _HIGH, _SAMPLE = "low:", "high:", "sample:"


class RangeRecorder:
    """Runs a float32 graph and remembers, by value name, the largest magnitude ever seen.

    Attributes:
        largest: magnitude by value name, after `run`.
    """

    def __init__(self, model: ir.Model, folder: Path, *, sampled: Collection[str] = ()) -> None:
        """Write an instrumented copy of `model` to `folder` and open it.

        Args:
            model: simplified float32 graph; it is not changed.
            folder: temporary; the caller removes it after `close`.
            sampled: names of the values that `magnitudes` will be asked for.
        """
        self._name = model.graph.name
        self._outputs = [value.name for value in model.graph.outputs]
        self.largest: dict[str, float] = {}
        self._samples: dict[str, list[NDArray[np.float32]]] = {name: [] for name in sampled}
        path = folder / f"{self._name}.onnx"
        save_graph(_instrumented(model, sampled), path)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # In the order of the file, where a value's extremes follow it, so that the value can go: the default order
        # computes all extremes at the end and keeps every value until then (20 GB for vit_l).
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The graph's own outputs.

        Raises:
            GraphError: a value is infinite or NaN in float32 already.
        """
        names = [output.name for output in self._session.get_outputs()]
        results = dict(zip(names, self._session.run(None, dict(feeds)), strict=True))
        for name, array in results.items():
            kind, _, value = name.partition(":")
            if name.startswith((_LOW, _HIGH)):
                self._note(value, abs(float(array)))
            elif kind + ":" == _SAMPLE:
                self._samples[value].append(np.abs(array))
        return {str(name): results[str(name)] for name in self._outputs}

    def magnitudes(self, name: str) -> NDArray[np.float32]:
        """(n,) of a sampled value, over all runs."""
        return np.concatenate(self._samples[name])

    def __enter__(self) -> RangeRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session

    def _note(self, value: str, magnitude: float) -> None:
        if not np.isfinite(magnitude):
            raise GraphError(
                f"{self._name}: {value} is {magnitude} in float32 already; the checkpoint is damaged, "
                "or a calibration image is beyond it"
            )
        self.largest[value] = max(self.largest.get(value, 0.0), magnitude)


def _instrumented(model: ir.Model, sampled: Collection[str]) -> ir.Model:
    """A copy with the extremes of every float32 value as further outputs; weights are shared with `model`."""
    copy = model.clone()
    graph = copy.graph
    for node in list(graph):
        for value in node.outputs:
            if value.dtype != _FLOAT or not value.name:
                continue
            for prefix, op_type in ((_LOW, "ReduceMin"), (_HIGH, "ReduceMax")):
                _append(graph, op_type, [value], prefix + value.name, keepdims=0)
            if value.name in sampled:
                _append_sample(graph, value)
    return copy


def _append_sample(graph: ir.Graph, value: ir.Value) -> None:
    """Every n-th value; n is odd, so that it does not pick the same channels over and over."""
    assert value.shape is not None
    size = int(np.prod([dim for dim in value.shape if isinstance(dim, int)]))
    step = max(1, size // _SAMPLE_SIZE) | 1
    flat = _append(graph, "Reshape", [value, _integers(graph, f"{value.name}:flat", [-1])], f"flat:{value.name}")
    graph.outputs.remove(flat)
    bounds = [_integers(graph, f"{value.name}:{k}", [n]) for k, n in enumerate((0, np.iinfo(np.int64).max, 0, step))]
    _append(graph, "Slice", [flat, *bounds], _SAMPLE + str(value.name))


def _append(graph: ir.Graph, op_type: str, inputs: list[ir.Value], name: str, **attributes: int) -> ir.Value:
    node = new_node(op_type, inputs, name, _FLOAT, **attributes)
    producer = inputs[0].producer()
    assert producer is not None
    graph.insert_after(producer, node)
    graph.outputs.append(node.outputs[0])
    return node.outputs[0]


def _integers(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    return new_initializer(graph, name, np.array(numbers, np.int64))
