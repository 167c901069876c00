"""The command line of NVIDIA's trtexec that builds and times a graph with the shapes of its contract."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from ..contract import GraphSpec
from .profiles import Range, profiles_of


def trtexec_command(graph: Path, spec: GraphSpec, ranges: Mapping[str, tuple[Range, ...]]) -> str:
    """For a typed graph, whose types TensorRT 10 keeps with --stronglyTyped; 11 keeps them without.

    Args:
        graph: its ONNX file.
        spec: its IO contract.
        ranges: as `profiles_of` takes them; of several profiles it is the first one.
    """
    profile = profiles_of(spec, ranges)[0]
    words = [
        "trtexec",
        f"--onnx={graph}",
        "--stronglyTyped",
        f"--saveEngine={graph.with_suffix('.trtexec.engine').name}",
    ]
    for kind in ("min", "opt", "max") if profile else ():
        shapes = ",".join(f"{name}:{'x'.join(map(str, getattr(shape, kind)))}" for name, shape in profile.items())
        words.append(f"--{kind}Shapes={shapes}")
    return shlex.join(words)
