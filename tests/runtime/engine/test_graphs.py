"""Our graphs as TensorRT's own parser and builder see them: layer types, precisions, the fusion node."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from samhq_exporter.passes.matching import matches_any
from samhq_exporter.precision.policy import PRECISIONS, TABLE
from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.engine import build_engines
from samhq_runtime.engine.builder import ParsedGraph
from tests.support.tensorrt_builder import (
    COMPUTE,
    LAYER_OF_OPERATOR,
    TYPES,
    computing,
    layers_of,
    parse,
    require_fusion,
    require_rtx,
    require_same_computation,
)

FORMS = [*((precision, "hadamard") for precision in PRECISIONS), ("fp32", "independent"), ("fp32", "sum")]


@pytest.fixture(scope="module", params=FORMS, ids="-".join)
def exported(request: pytest.FixtureRequest, tiny_bundle_of: Callable[[str, str], Bundle]) -> Bundle:
    require_rtx()
    return tiny_bundle_of(*request.param)


def parsed(bundle: Bundle, name: str) -> ParsedGraph:
    entry = bundle.manifest.graphs[name]
    return parse(bundle.path, entry.file, entry.spec)


def test_computes_what_the_files_say(exported: Bundle) -> None:
    for name in (IMAGE_ENCODER, MASK_DECODER):
        require_same_computation(parsed(exported, name), ir.load(exported.path / f"{name}.onnx"))


def test_fusion_is_one_elementwise_layer(exported: Bundle) -> None:
    graph = parsed(exported, MASK_DECODER)
    require_fusion(graph, exported.manifest.token_fusion)
    assert graph.fixed_inputs == ("hq_token",)
    assert "hq_token" in {layer.name for layer in layers_of(graph) if layer.type.name == "CONSTANT"}


def test_compute_precision(exported: Bundle) -> None:
    """Only the islands that the manifest names compute in float32; int8 and float8 are where it lists layers."""
    for name in (IMAGE_ENCODER, MASK_DECODER):
        policy, graph = exported.manifest.precision_policy[name], parsed(exported, name)
        nodes = {node.name: node for node in ir.load(exported.path / f"{name}.onnx").graph}
        nodes = {n: node for n, node in nodes.items() if LAYER_OF_OPERATOR.get(node.op_type) in COMPUTE}
        islands = (*policy["fp32_islands"], *policy["measured_islands"])
        for layer in layers_of(graph):
            if layer.name in nodes:
                single = policy["compute"] == "float32" or matches_any(nodes[layer.name], islands)
                expected = "float32" if single else policy["compute"]
                assert (layer.name, TYPES.get(layer.get_output(0).dtype.name)) == (layer.name, expected)
        quantized = [layer.name for layer in layers_of(graph) if layer.type.name == "QUANTIZE"]
        assert len(quantized) == sum(len(scales) for scales in policy["quantized_layers"].values())
        assert bool(quantized) == (name in TABLE[exported.manifest.precision].quantized)


def test_builds_with_dynamic_profiles(exported: Bundle, tmp_path: Path) -> None:
    """The encoder is the same for every fusion."""
    graphs = [IMAGE_ENCODER, MASK_DECODER] if exported.manifest.token_fusion == "independent" else [MASK_DECODER]
    bundle = shutil.copytree(exported.path, tmp_path / "bundle")
    built = build_engines(bundle, target="rtx", graphs=graphs)
    assert [engine.entry.graph for engine in built] == graphs


def test_trained_model(demo_bundle_fp16: Bundle) -> None:
    assert computing(parsed(demo_bundle_fp16, IMAGE_ENCODER), "FLOAT") == {"SOFTMAX": 5}  # no measured island
