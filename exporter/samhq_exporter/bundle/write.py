"""Typed graphs and the checkpoint they come from -> a bundle's files and its manifest."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime

from samhq_runtime import __version__
from samhq_runtime.bundle import NOT_ON_CPU, Bundle
from samhq_runtime.bundle.files import file_entries
from samhq_runtime.contract import ModelSizes, image_encoder_spec, mask_decoder_spec
from samhq_runtime.manifest import GraphEntry, Manifest, printable, write_manifest

from ..architecture import PIXEL_MEAN, PIXEL_STD
from ..onnx_files import save_graph
from ..precision.forms import TypedGraph
from ..precision.policy import EMBEDDINGS_DTYPE, TABLE
from ..tracing.modules import model_sizes
from ..tracing.trace import OPSET
from ..weights.checkpoint import Checkpoint
from .graph_files import save_forms

MASK_THRESHOLD = 0.0
_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript", "numpy")


def write_bundle(folder: Path, checkpoint: Checkpoint, graphs: Mapping[str, TypedGraph], *, precision: str) -> Bundle:
    """Write the graphs; the manifest is not on disk before `write_parity`."""
    sizes = model_sizes(checkpoint.sam)
    entries = _write_graphs(graphs, folder, sizes, precision)
    manifest = Manifest(
        variant=checkpoint.variant,
        precision=precision,
        token_fusion=checkpoint.token_fusion,
        sizes=sizes,
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
        mask_threshold=MASK_THRESHOLD,
        opset=TABLE[precision].opset or OPSET,
        precision_policy={name: graph.policy.to_json() for name, graph in graphs.items()},
        graphs=entries,
        files=file_entries(folder),
        checkpoint=_origin(checkpoint),
        tools=_tools(),
        parity={},
    )
    return Bundle(folder, manifest)


def write_parity(bundle: Bundle, parity: Mapping[str, Any]) -> Manifest:
    """Write the manifest, with how close the bundle is to PyTorch and the hashes of all files that are there now."""
    precision = bundle.manifest.precision
    emulated = {"emulated": f"{precision} roundings, float32 kernels"} if precision in NOT_ON_CPU else {}
    manifest = replace(bundle.manifest, files=file_entries(bundle.path), parity={**parity, **emulated})
    write_manifest(bundle.path, manifest)
    return manifest


def _write_graphs(
    graphs: Mapping[str, TypedGraph], folder: Path, sizes: ModelSizes, precision: str
) -> dict[str, GraphEntry]:
    entries = {}
    for make_spec in (image_encoder_spec, mask_decoder_spec):
        spec = make_spec(sizes, embeddings_dtype=EMBEDDINGS_DTYPE[precision])
        graph, path, cpu_path = graphs[spec.name], folder / f"{spec.name}.onnx", None
        for form in filter(None, (graph.model, graph.cpu)):
            form.producer_name, form.producer_version = "samhq-export", __version__
        if graph.cpu is not None:
            cpu_path = save_forms(graph.model, graph.cpu, path)
        else:
            save_graph(graph.model, path)
        entries[spec.name] = GraphEntry(path.name, spec, cpu_path.name if cpu_path else None)
    return entries


def _origin(checkpoint: Checkpoint) -> dict[str, str]:
    """The weights file, what it was put into, and the tuned HQ token that was put into it."""
    origin = {"file": checkpoint.file_name, "sha256": checkpoint.sha256}
    if checkpoint.base:
        origin |= {"base_file": checkpoint.base.name, "base_sha256": checkpoint.base.sha256}
    if checkpoint.hq_token:
        origin |= {"hq_token_file": checkpoint.hq_token.name, "hq_token_sha256": checkpoint.hq_token.sha256}
    return {name: printable(value) for name, value in origin.items()}  # a file may be called anything


def _tools() -> dict[str, str]:
    return {
        "samhq-export": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _TOOLS},
        "onnxruntime": onnxruntime.__version__,  # its distribution is onnxruntime or onnxruntime-gpu
    }
