"""The two things that are compared, as Polygraphy runners whose outputs can be chosen."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from polygraphy.backend.onnx import ModifyOutputs
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.comparator import Comparator, RunResults
from polygraphy.logger import G_LOGGER

from ..contract import Array
from ..parity import relative_error
from .graph import GraphFile

_ERRORS = 3  # ONNX Runtime's severity; its warnings are about weights that a marked graph no longer uses


@dataclass(frozen=True)
class Side:
    """What computes: `runner` makes a Polygraphy runner that returns the named values, `feeds` are its inputs."""

    runner: Callable[[Sequence[str], Path], Any]
    feeds: Mapping[str, Array]

    def run(self, names: Sequence[str]) -> RunResults:
        onnxruntime.set_default_logger_severity(_ERRORS)
        with tempfile.TemporaryDirectory() as folder, G_LOGGER.verbosity(G_LOGGER.CRITICAL):
            return Comparator.run([self.runner(names, Path(folder))], data_loader=[dict(self.feeds)])


def onnx_side(graph: GraphFile, feeds: Mapping[str, Array]) -> Side:
    """Under ONNX Runtime on the CPU, without its fusions, so that every value is computed where the graph says."""
    return Side(partial(_onnxruntime, graph), graph.feeds(feeds))


def tensorrt_side(graph: GraphFile, feeds: Mapping[str, Array]) -> Side:
    """A TensorRT engine for the sizes of `feeds`; what is marked is no longer fused away."""
    return Side(partial(_tensorrt, graph, graph.feeds(feeds)), graph.feeds(feeds))


def compute(side: Side, names: Sequence[str]) -> dict[str, Array]:
    """The named values."""
    ((_, (result,)),) = side.run(names)
    return {name: result[name] for name in names}


def errors_of(candidate: Side, reference: Side, names: Collection[str]) -> dict[str, float]:
    """By value of one shape on both sides, the largest error over the reference's range; infinite for NaN."""
    found: dict[str, float] = {}

    def compare(one: Any, other: Any) -> dict[str, bool]:
        for name in names:
            if one[name].shape == other[name].shape:
                error = relative_error(one[name], other[name])
                found[name] = float("inf") if np.isnan(error) else error
        return {}

    results = RunResults([*candidate.run(list(names)), *reference.run(list(names))])
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        Comparator.compare_accuracy(results, compare_func=compare)
    return found


def _onnxruntime(graph: GraphFile, names: Sequence[str], folder: Path) -> Any:
    marked = ModifyOutputs(graph.proto, outputs=list(names), copy=True)()
    for data in graph.path.parent.glob("*.data"):
        _link(data, folder / data.name)
    path = folder / graph.path.name
    path.write_bytes(marked.SerializeToString())
    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return OnnxrtRunner(SessionFromOnnx(str(path), providers=["CPUExecutionProvider"], graph_optimization_level=level))


def _link(file: Path, link: Path) -> None:
    """A second name, or a copy on another file system; ONNX Runtime does not follow symbolic links."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)


def _tensorrt(graph: GraphFile, feeds: Mapping[str, Array], names: Sequence[str], folder: Path) -> Any:
    from polygraphy.backend.trt import (
        CreateConfig,
        EngineFromNetwork,
        ModifyNetworkOutputs,
        NetworkFromOnnxPath,
        Profile,
        TrtRunner,
    )

    profile = Profile()
    for name, array in feeds.items():
        profile.add(name, array.shape, array.shape, array.shape)
    network = ModifyNetworkOutputs(NetworkFromOnnxPath(str(graph.path), strongly_typed=True), list(names))
    return TrtRunner(EngineFromNetwork(network, CreateConfig(profiles=[profile])))
