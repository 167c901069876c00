"""Bundles whose precision the CPU lacks, made runnable on it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from samhq_runtime.bundle import NOT_ON_CPU, Bundle

from ..onnx_files import save_graph
from ..passes.emulate import emulate_bfloat16


@contextmanager
def runnable(bundle: Bundle, folder: Path | None = None) -> Iterator[Bundle]:
    """`bundle` itself, or a temporary float32 copy (in `folder`) that rounds wherever the bundle's graphs round."""
    if bundle.manifest.precision not in NOT_ON_CPU:
        yield bundle
        return
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for entry in bundle.manifest.graphs.values():
            save_graph(emulate_bfloat16(ir.load(bundle.path / entry.file)), Path(temporary) / entry.file)
        yield Bundle(Path(temporary), replace(bundle.manifest, precision="fp32"))
