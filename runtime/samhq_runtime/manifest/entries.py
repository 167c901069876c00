"""The parts of a manifest: files, graphs, engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..contract import GraphSpec


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class GraphEntry:
    """One ONNX graph of the bundle.

    Attributes:
        file: the portable graph, relative to the bundle.
        spec: its inputs and outputs.
        cpu_file: the same graph with operators that only ONNX Runtime has, for its CPU provider; None if there is none.
    """

    file: str
    spec: GraphSpec
    cpu_file: str | None = None


@dataclass(frozen=True, kw_only=True)
class EngineEntry:
    """One TensorRT engine of the bundle, built on a user's machine after the export.

    Attributes:
        graph: the graph it was built from, and `graph_sha256`, of which content.
        file: relative to the bundle; hashed in `files` like the others.
        flavour: `tensorrt` or `rtx`; `version` is that library's.
        gpu: name of the GPU it was built on, with its `compute_capability`; None if built ahead of time.
        profiles: per profile and dynamic input, the `min`, `opt` and `max` shapes.
        fixed_inputs: optional inputs of the graph that are constants in the engine.
        flags: the builder options that were set.
        platform: operating system and processor it was built on, as `linux-x86_64`.
        parity: how close it is to PyTorch and to the ONNX graph on the GPU it was checked on; empty if it never was.
    """

    graph: str
    file: str
    graph_sha256: str
    flavour: str
    version: str
    gpu: str | None
    compute_capability: str | None
    profiles: Sequence[Mapping[str, Any]]
    fixed_inputs: Sequence[str]
    flags: Mapping[str, Any]
    platform: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
