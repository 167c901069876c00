"""Every precision and token fusion at the sizes that are released, through TensorRT's own parser and builder.

Weights are random and int8 scales made up: what is looked at are types and operators. The demo's size is always
tested; vit_tiny and a vit_b of three blocks, which cost minutes, with --run-slow.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from tensorrt_builder import layers_of, parse, require_rtx

from samhq_exporter.architecture import VARIANTS, Architecture
from samhq_exporter.graphs import graphs_of, model_sizes
from samhq_exporter.measured_policy import int8_nodes
from samhq_exporter.model import Sam
from samhq_exporter.onnx_files import save_graph
from samhq_exporter.passes import apply_policy, simplify
from samhq_exporter.passes.int8 import activations_of
from samhq_exporter.passes.matching import matches_any
from samhq_exporter.precision import PRECISIONS, TABLE, PrecisionPolicy, policy_of
from samhq_exporter.trace import trace
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, GraphSpec, image_encoder_spec, mask_decoder_spec
from samhq_runtime.engine.builder import ParsedGraph, build_plan
from samhq_runtime.engine.options import EngineOptions
from samhq_runtime.engine.profiles import profiles_of

FUSIONS = {"independent": None, "sum": ("/token_fusion/Add", "SUM"), "hadamard": ("/token_fusion/Mul", "PROD")}
SIZES: dict[str, Architecture] = {
    "demo": VARIANTS["demo"],
    "vit_tiny": VARIANTS["vit_tiny"],
    "vit_b": replace(VARIANTS["vit_b"], depth=3, global_attn_indexes=(2,)),
}
COMPUTE = {"MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION"}
PLUGINS = {"PLUGIN", "PLUGIN_V2", "PLUGIN_V3"}
LAYER_TYPE = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Typed:
    model: ir.Model
    policy: PrecisionPolicy
    spec: GraphSpec


@lru_cache(maxsize=4)
def simplified(size: str, graph: str, fusion: str) -> ir.Model:
    torch.manual_seed(0)
    sam = Sam(SIZES[size], token_fusion=fusion).eval().requires_grad_(False)
    model = trace(next(g for g in graphs_of(sam) if g.spec.name == graph))
    simplify(model)
    return model


@lru_cache(maxsize=1)
def sizes_of(size: str) -> object:
    return model_sizes(Sam(SIZES[size]))


def typed(size: str, graph: str, fusion: str, precision: str) -> Typed:
    row, model = TABLE[precision], simplified(size, graph, fusion).clone()
    policy = policy_of(precision, graph, token_fusion=fusion)
    if graph in row.int8:
        layers = {str(n.name): (0.05,) * len(activations_of(n)) for n in int8_nodes(model, row.int8[graph], ())}
        policy = replace(policy, int8_layers=layers)
    half_io = frozenset({"image_embeddings", "hq_features"} if row.embeddings == "float16" else ())
    apply_policy(model, policy=policy, half_io=half_io)
    model.opset_imports[""] = row.opset or model.opset_imports[""]
    make = {IMAGE_ENCODER: image_encoder_spec, MASK_DECODER: mask_decoder_spec}[graph]
    return Typed(model, policy, make(sizes_of(size), embeddings_dtype=row.embeddings))  # type: ignore[arg-type]


def build(graph: ParsedGraph, spec: GraphSpec) -> int:
    """The plan's size in bytes; the default profiles have dynamic prompts, points and combinations."""
    written: list[int] = []
    build_plan(
        graph,
        profiles_of(spec, {}),
        EngineOptions(optimization_level=0),
        timings=None,
        show=lambda *_: None,
        stop=threading.Event(),
        write=lambda data: written.append(memoryview(data).nbytes),
    )
    return sum(written)


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
    built = typed(size, graph, fusion, precision)
    save_graph(built.model, tmp_path / "graph.onnx")
    parsed = parse(tmp_path, "graph.onnx", built.spec)
    layers = layers_of(parsed)
    kinds = [layer.type.name for layer in layers]
    assert parsed.parser.num_errors == 0
    assert not PLUGINS & set(kinds)
    check_norms(built, kinds)
    check_compute(built, layers)
    if graph == MASK_DECODER:
        check_fusion(fusion, layers)
    assert build(parsed, built.spec) > 10_000


def check_norms(built: Typed, kinds: list[str]) -> None:
    """One NORMALIZATION per LayerNormalization, none taken apart."""
    expected = sum(node.op_type == "LayerNormalization" for node in built.model.graph)
    assert kinds.count("NORMALIZATION") == expected > 0


def check_compute(built: Typed, layers: list[object]) -> None:
    """Products and convolutions have the policy's type outside its islands, and float32 inside."""
    policy = built.policy
    found = {layer.name: layer.get_output(0).dtype.name for layer in layers if layer.type.name in COMPUTE}  # type: ignore[attr-defined]
    nodes = {str(n.name): n for n in built.model.graph if n.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose")}
    known = {name: dtype for name, dtype in found.items() if name in nodes}
    assert len(known) > 5
    unexpected = {
        name: dtype
        for name, dtype in known.items()
        if dtype != ("FLOAT" if matches_any(nodes[name], policy.islands) else LAYER_TYPE[policy.compute])
    }
    assert unexpected == {}
    assert set(found.values()) <= {"FLOAT", LAYER_TYPE[policy.compute]}
    kinds = [layer.type.name for layer in layers]  # type: ignore[attr-defined]
    pairs = sum(node.op_type == "QuantizeLinear" for node in built.model.graph)
    weights = sum(node.op_type == "DequantizeLinear" for node in built.model.graph) - pairs
    assert (kinds.count("QUANTIZE"), kinds.count("DEQUANTIZE")) == (pairs, pairs + weights)
    assert bool(policy.int8_layers) == (pairs > 0)


def check_fusion(fusion: str, layers: list[object]) -> None:
    from tensorrt_rtx import IElementWiseLayer

    found = {layer.name: layer for layer in layers if layer.name.startswith("/token_fusion/")}  # type: ignore[attr-defined]
    elementwise = {name: layer for name, layer in found.items() if layer.type.name == "ELEMENTWISE"}  # type: ignore[attr-defined]
    expected = FUSIONS[fusion]
    if expected is None:
        assert not elementwise
        return
    name, operation = expected
    assert list(elementwise) == [name]
    elementwise[name].__class__ = IElementWiseLayer
    assert elementwise[name].op.name == operation  # type: ignore[attr-defined]
