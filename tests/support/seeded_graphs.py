"""Graphs of the released sizes with seeded weights, typed as they ship, and what the real builder makes of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import onnx_ir as ir
import torch

from samhq_exporter.architecture import VARIANTS, HieraStages
from samhq_exporter.model import Sam, Sam2
from samhq_exporter.onnx_files import save_graph
from samhq_exporter.passes.quantize import activations_of
from samhq_exporter.precision.forms import TypedGraph, type_graph
from samhq_exporter.precision.measuring import quantizable_nodes
from samhq_exporter.precision.policy import TABLE, policy_of
from samhq_exporter.precision.typed import traced
from samhq_exporter.tracing.modules import graphs_of, model_sizes
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, GraphSpec, image_encoder_spec, mask_decoder_spec
from samhq_runtime.engine.builder import ParsedGraph, build_plan
from samhq_runtime.nvidia.options import EngineOptions
from samhq_runtime.nvidia.plan import Program, read_plan
from samhq_runtime.nvidia.profiles import Range, profiles_of
from tests.support.tensorrt_builder import parse

# The widest encoders as what the other blocks repeat: a windowed and a global one, of SAM 2 two of each stage.
SHORTENED = {
    f"{size} of 2 blocks": replace(VARIANTS[size], depth=2, global_attn_indexes=(1,)) for size in ("vit_l", "vit_h")
} | {
    "hiera_large of 8 blocks": replace(
        VARIANTS["hiera_large"],
        depth=8,
        global_attn_indexes=(5,),
        hiera=HieraStages(depths=(2, 2, 2, 2), window_sizes=(8, 4, 16, 8)),
    )
}
SCALE = 0.05  # of every quantized activation: nothing here is run
_programs: dict[str, list[Program]] = {}  # by digest of graph and profile: what does not differ is built once


@lru_cache(maxsize=1)
def seeded(size: str, fusion: str = "hadamard") -> Sam | Sam2:
    torch.manual_seed(0)
    arch = {**VARIANTS, **SHORTENED}[size]
    return (Sam2 if arch.hiera else Sam)(arch, token_fusion=fusion).eval().requires_grad_(False)


@lru_cache(maxsize=1)
def simplified(size: str, graph: str, fusion: str) -> ir.Model:
    """One trace for all precisions: cases that follow one another share it."""
    return traced(next(g for g in graphs_of(seeded(size, fusion)) if g.spec.name == graph))


def typed(size: str, graph: str, precision: str, fusion: str = "hadamard") -> TypedGraph:
    model, family = simplified(size, graph, fusion).clone(), seeded(size, fusion).family
    row, policy = TABLE[precision], policy_of(precision, graph, token_fusion=fusion, family=family)
    if graph in row.quantized:
        nodes = quantizable_nodes(model, row.quantized[graph], ())
        layers = {str(node.name): (SCALE,) * len(activations_of(node)) for node in nodes}
        policy = replace(policy, number=row.number, quantized_layers=layers)
    return type_graph(model, policy, precision=precision, token_fusion=fusion)


def spec_of(size: str, graph: str, precision: str, fusion: str = "hadamard") -> GraphSpec:
    make = {IMAGE_ENCODER: image_encoder_spec, MASK_DECODER: mask_decoder_spec}[graph]
    return make(model_sizes(seeded(size, fusion)), embeddings_dtype=TABLE[precision].embeddings)


def programs_of(
    graph: ParsedGraph,
    spec: GraphSpec,
    ranges: Mapping[str, tuple[Range, ...]] | None = None,
    options: EngineOptions | None = None,
) -> list[Program]:
    """What the builder makes of a graph; by default with dynamic prompts, points and combinations."""
    files = b"".join(path.read_bytes() for path in sorted(graph.file.parent.iterdir()))
    digest = hashlib.sha256(files + repr((ranges, options)).encode()).hexdigest()
    if digest not in _programs:
        pieces: list[bytes] = []
        build_plan(
            graph,
            profiles_of(spec, ranges or {}),
            options or EngineOptions(),
            timings=None,
            show=lambda *_: None,
            stop=threading.Event(),
            write=lambda data: pieces.append(bytes(data)),
        )
        _programs[digest] = read_plan(b"".join(pieces), graph.file.name)
    return _programs[digest]


def compiled(
    size: str, graph: str, precision: str, folder: Path, ranges: Mapping[str, tuple[Range, ...]] | None = None
) -> Program:
    """The program for the GPUs that TensorRT-RTX builds for by default."""
    spec = spec_of(size, graph, precision)
    save_graph(typed(size, graph, precision).model, folder / "graph.onnx")
    (program,) = programs_of(parse(folder, "graph.onnx", spec), spec, ranges)
    return program
