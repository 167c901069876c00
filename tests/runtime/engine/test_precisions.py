"""Every precision and token fusion at the sizes that are released, through TensorRT's own parser and builder.

Weights are random and int8 scales made up: what is looked at are types and operators. The demo's size is always
tested; vit_tiny and vit_b, whose traces and builds take a minute, with --run-slow.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from samhq_exporter.onnx_files import save_graph
from samhq_exporter.passes.matching import matches_any
from samhq_exporter.precision.policy import PRECISIONS, TABLE, PrecisionPolicy, policy_of
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.engine.builder import ParsedGraph
from tests.support.seeded_graphs import programs_of, spec_of, typed
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
    typed_graph, spec = typed(size, graph, precision, fusion), spec_of(size, graph, precision, fusion)
    save_graph(typed_graph.model, tmp_path / "graph.onnx")
    parsed = parse(tmp_path, "graph.onnx", spec)
    require_same_computation(parsed, typed_graph.model)
    check_types(parsed, typed_graph.model, typed_graph.policy)
    check_counts(parsed, size, graph, fusion, precision)
    if graph == MASK_DECODER:
        require_fusion(parsed, fusion)
        assert parsed.fixed_inputs == ("hq_token",)
    # test_kernels.py builds the others; vit_tiny's decoder is vit_b's with other weights
    if graph == MASK_DECODER and fusion != "hadamard" and size != "vit_tiny":
        (program,) = programs_of(parsed, spec)
        assert len(program.kernels) > 50


def check_types(parsed: ParsedGraph, model: ir.Model, policy: PrecisionPolicy) -> None:
    """Layers have the policy's type outside its islands, and float32 inside."""
    nodes = {str(node.name): node for node in model.graph}
    found = {layer.name: TYPES.get(layer.get_output(0).dtype.name) for layer in layers_of(parsed)}
    computed = {name: dtype for name, dtype in found.items() if name in nodes and dtype is not None}
    expected = {n: "float32" if matches_any(nodes[n], policy.islands) else policy.compute for n in computed}
    wrong = {n: dtype for n, dtype in computed.items() if nodes[n].op_type != "Cast" and dtype != expected[n]}
    assert wrong == {}


# Layers that compute in float32 where the rest is half precision, LayerNorms apart: a wider island fails here.
DECODER = {"ACTIVATION": 4, "CONVOLUTION": 4, "ELEMENTWISE": 23, "MATRIX_MULTIPLY": 14, "SOFTMAX": 7, "UNARY": 2}
SINGLE = {
    **{("demo", precision): {"SOFTMAX": 5} for precision in ("fp16", "int8", "fp8")},
    **{("vit_tiny", precision): {"SOFTMAX": 10} for precision in ("fp16", "int8", "fp8")},
    **{("vit_b", precision): {"SOFTMAX": 12} for precision in ("fp16", "int8", "fp8")},
    ("demo", "bf16"): {"ACTIVATION": 2, "CONVOLUTION": 2, "ELEMENTWISE": 36, "MATRIX_MULTIPLY": 5, "SOFTMAX": 5},
    ("vit_tiny", "bf16"): {"ACTIVATION": 3, "CONVOLUTION": 3, "ELEMENTWISE": 77, "MATRIX_MULTIPLY": 5, "SOFTMAX": 10},
    ("vit_b", "bf16"): {"ACTIVATION": 2, "CONVOLUTION": 2, "ELEMENTWISE": 78, "MATRIX_MULTIPLY": 5, "SOFTMAX": 12},
}
QUANTIZED = {"demo": (20, 40), "vit_tiny": (40, 80), "vit_b": (48, 96)}  # activations; those and weights


def check_counts(parsed: ParsedGraph, size: str, graph: str, fusion: str, precision: str) -> None:
    counts = count_layers(parsed)
    half = LAYER_TYPE[policy_of(precision, graph, token_fusion=fusion).compute]
    dtypes = {dtype for dtype in TYPES if computing(parsed, dtype)}
    quantized = (counts["QUANTIZE", TABLE[precision].number.upper()], counts["DEQUANTIZE", half])
    assert quantized == (QUANTIZED[size] if graph in TABLE[precision].quantized else (0, 0))
    assert dtypes == {"FLOAT", half}
    if half == "FLOAT":
        return
    expected = SINGLE.get((size, precision), {}) if graph == IMAGE_ENCODER else DECODER
    fused = graph == IMAGE_ENCODER or fusion != "independent"
    assert computing(parsed, "FLOAT") == {**expected, **({} if fused else {"ELEMENTWISE": expected["ELEMENTWISE"] - 1})}
    assert computing(parsed, half)["MATRIX_MULTIPLY"] >= 30
