"""Every precision and token fusion at the sizes that are released, through TensorRT's own parser and builder.

Weights are random and int8 scales made up: what is looked at are types and operators. The demo's size is always
tested; vit_tiny and vit_b, whose traces and builds take a minute, with --run-slow.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import onnx_ir as ir
import pytest
import torch

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.bundle.graph_files import save_graph
from samhq_exporter.model import Sam
from samhq_exporter.passes.int8 import activations_of
from samhq_exporter.passes.matching import matches_any
from samhq_exporter.precision.measured import int8_nodes
from samhq_exporter.precision.policy import PRECISIONS, TABLE, PrecisionPolicy, policy_of
from samhq_exporter.precision.typed import TypedGraph, traced, type_graph
from samhq_exporter.tracing.modules import graphs_of, model_sizes
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, GraphSpec, image_encoder_spec, mask_decoder_spec
from samhq_runtime.engine.builder import ParsedGraph, build_plan
from samhq_runtime.nvidia.options import EngineOptions
from samhq_runtime.nvidia.profiles import profiles_of
from tests.support.tensorrt_builder import (
    TYPES,
    computing,
    count_layers,
    layers_of,
    parse,
    require_fusion,
    require_rtx,
    require_same_computation,
)

FUSIONS = ("independent", "sum", "hadamard")
SIZES = ("demo", "vit_tiny", "vit_b")
LAYER_TYPE = {dtype: layer for layer, dtype in TYPES.items()}
built: dict[str, int] = {}  # digest of a graph -> bytes of its plan: graphs that do not differ are built once


@lru_cache(maxsize=1)
def seeded(size: str, fusion: str) -> Sam:
    torch.manual_seed(0)
    return Sam(VARIANTS[size], token_fusion=fusion).eval().requires_grad_(False)


@lru_cache(maxsize=1)
def simplified(size: str, graph: str, fusion: str) -> ir.Model:
    """One trace for all precisions: the cases follow one another."""
    return traced(next(g for g in graphs_of(seeded(size, fusion)) if g.spec.name == graph))


def typed(size: str, graph: str, fusion: str, precision: str) -> TypedGraph:
    model, policy = simplified(size, graph, fusion).clone(), policy_of(precision, graph, token_fusion=fusion)
    fragment = TABLE[precision].int8.get(graph)
    if fragment is not None:
        layers = {str(n.name): (0.05,) * len(activations_of(n)) for n in int8_nodes(model, fragment, ())}
        policy = replace(policy, int8_layers=layers)
    return type_graph(model, policy, precision=precision, token_fusion=fusion)


def spec_of(size: str, graph: str, fusion: str, precision: str) -> GraphSpec:
    make = {IMAGE_ENCODER: image_encoder_spec, MASK_DECODER: mask_decoder_spec}[graph]
    return make(model_sizes(seeded(size, fusion)), embeddings_dtype=TABLE[precision].embeddings)


def plan_bytes(graph: ParsedGraph, spec: GraphSpec) -> int:
    """The default profiles have dynamic prompts, points and combinations."""
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(graph.file.parent.iterdir()))).hexdigest()
    if digest not in built:
        written: list[int] = []
        build_plan(
            graph,
            profiles_of(spec, {}),
            EngineOptions(),
            timings=None,
            show=lambda *_: None,
            stop=threading.Event(),
            write=lambda data: written.append(memoryview(data).nbytes),
        )
        built[digest] = sum(written)
    return built[digest]


def cases() -> list[object]:
    """The encoder is the same for every fusion."""
    return [
        pytest.param(size, graph, fusion, precision, marks=[pytest.mark.slow] if size != "demo" else [])
        for size in SIZES
        for graph in (IMAGE_ENCODER, MASK_DECODER)
        for fusion in (FUSIONS if graph == MASK_DECODER else ["hadamard"])
        for precision in PRECISIONS
    ]


@pytest.mark.parametrize(("size", "graph", "fusion", "precision"), cases())
def test_parse_and_build(size: str, graph: str, fusion: str, precision: str, tmp_path: Path) -> None:
    require_rtx()
    typed_graph, spec = typed(size, graph, fusion, precision), spec_of(size, graph, fusion, precision)
    save_graph(typed_graph.model, tmp_path / "graph.onnx")
    parsed = parse(tmp_path, "graph.onnx", spec)
    require_same_computation(parsed, typed_graph.model)
    check_types(parsed, typed_graph.model, typed_graph.policy)
    check_counts(parsed, size, graph, fusion, precision)
    if graph == MASK_DECODER:
        require_fusion(parsed, fusion)
        assert parsed.fixed_inputs == ("hq_token",)
    assert plan_bytes(parsed, spec) > 10_000


def check_types(parsed: ParsedGraph, model: ir.Model, policy: PrecisionPolicy) -> None:
    """Layers have the policy's type outside its islands, and float32 inside."""
    nodes = {str(node.name): node for node in model.graph}
    found = {layer.name: TYPES.get(layer.get_output(0).dtype.name) for layer in layers_of(parsed)}
    computed = {name: dtype for name, dtype in found.items() if name in nodes and dtype is not None}
    expected = {n: "float32" if matches_any(nodes[n], policy.islands) else policy.compute for n in computed}
    wrong = {n: dtype for n, dtype in computed.items() if nodes[n].op_type != "Cast" and dtype != expected[n]}
    assert wrong == {}


# Layers that compute in float32 where the rest is half precision, LayerNorms apart: a wider island fails here.
DECODER = {"ACTIVATION": 4, "CONVOLUTION": 4, "ELEMENTWISE": 25, "MATRIX_MULTIPLY": 17, "SOFTMAX": 7, "UNARY": 2}
SINGLE = {
    ("demo", "fp16"): {"SOFTMAX": 5},
    ("vit_tiny", "fp16"): {"SOFTMAX": 10},
    ("vit_b", "fp16"): {"SOFTMAX": 12},
    ("demo", "bf16"): {"ACTIVATION": 2, "CONVOLUTION": 2, "ELEMENTWISE": 36, "MATRIX_MULTIPLY": 5, "SOFTMAX": 5},
    ("vit_tiny", "bf16"): {"ACTIVATION": 3, "CONVOLUTION": 3, "ELEMENTWISE": 77, "MATRIX_MULTIPLY": 5, "SOFTMAX": 10},
    ("vit_b", "bf16"): {"ACTIVATION": 2, "CONVOLUTION": 2, "ELEMENTWISE": 78, "MATRIX_MULTIPLY": 5, "SOFTMAX": 12},
}
QUANTIZED = {"demo": (20, 40), "vit_tiny": (40, 80), "vit_b": (48, 96)}  # activations; those and weights


def check_counts(parsed: ParsedGraph, size: str, graph: str, fusion: str, precision: str) -> None:
    counts = count_layers(parsed)
    half = LAYER_TYPE[policy_of(precision, graph, token_fusion=fusion).compute]
    dtypes = {dtype for dtype in TYPES if computing(parsed, dtype)}
    quantized = (counts["QUANTIZE", "INT8"], counts["DEQUANTIZE", "FLOAT"])
    assert quantized == (QUANTIZED[size] if (precision, graph) == ("int8", IMAGE_ENCODER) else (0, 0))
    assert dtypes == {"FLOAT", half}
    if half == "FLOAT":
        return
    expected = SINGLE[size, precision] if graph == IMAGE_ENCODER else DECODER
    fused = graph == IMAGE_ENCODER or fusion != "independent"
    assert computing(parsed, "FLOAT") == {**expected, **({} if fused else {"ELEMENTWISE": expected["ELEMENTWISE"] - 1})}
    assert computing(parsed, half)["MATRIX_MULTIPLY"] >= 40
