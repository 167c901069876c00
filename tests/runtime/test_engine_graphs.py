"""Our graphs as TensorRT's own parser and builder see them: layer types, precisions, the fusion node."""

from __future__ import annotations

import pytest
from conftest import export, save_checkpoint, tiny_sam
from tensorrt_builder import count_layers, layers_of, parse, require_rtx

from samhq_runtime.bundle import IMAGE_ENCODER, MASK_DECODER, Bundle
from samhq_runtime.engine import build_engines
from samhq_runtime.engine.builder import ParsedGraph

COMPUTE = {"MATRIX_MULTIPLY", "CONVOLUTION", "DECONVOLUTION", "EINSUM"}
PLUGINS = {"PLUGIN", "PLUGIN_V2", "PLUGIN_V3"}
FUSIONS = {"independent": None, "sum": "SUM", "hadamard": "PROD"}
NODES = {"sum": "/token_fusion/Add", "hadamard": "/token_fusion/Mul"}


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=FUSIONS)
def fused(request: pytest.FixtureRequest, precision: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    require_rtx()
    folder = tmp_path_factory.mktemp(f"{request.param}-{precision}")
    checkpoint = save_checkpoint(tiny_sam(token_fusion=request.param), folder / "tiny.pth")
    return export(checkpoint, folder / "bundle", precision=precision, token_fusion=request.param)


def parsed(bundle: Bundle, name: str) -> ParsedGraph:
    entry = bundle.manifest.graphs[name]
    return parse(bundle.path, entry.file, entry.spec)


def test_parses_without_errors_and_plugins(fused: Bundle) -> None:
    for name in (IMAGE_ENCODER, MASK_DECODER):
        graph = parsed(fused, name)
        assert graph.parser.num_errors == 0
        assert not PLUGINS & {layer.type.name for layer in layers_of(graph)}


def test_fusion_is_one_elementwise_layer(fused: Bundle) -> None:
    from tensorrt_rtx import IElementWiseLayer

    fusion = fused.manifest.token_fusion
    graph = parsed(fused, MASK_DECODER)
    found = {layer.name: layer for layer in layers_of(graph) if layer.name.startswith("/token_fusion/")}
    if fusion == "independent":
        assert not [layer for layer in found.values() if layer.type.name == "ELEMENTWISE"]
        return
    layer = found[NODES[fusion]]
    assert layer.type.name == "ELEMENTWISE"
    layer.__class__ = IElementWiseLayer
    assert layer.op.name == FUSIONS[fusion]
    assert [tuple(layer.get_input(i).shape) for i in range(layer.num_inputs)] == [(1, 64)] * 2
    assert graph.fixed_inputs == ("hq_token",)
    assert "hq_token" in {layer.name for layer in layers_of(graph) if layer.type.name == "CONSTANT"}


def test_layer_norms_arrive_whole(fused: Bundle) -> None:
    """One NORMALIZATION each; a decomposed one would show as REDUCE layers."""
    import onnx

    for name in (IMAGE_ENCODER, MASK_DECODER):
        model = onnx.load(fused.path / f"{name}.onnx", load_external_data=False)
        expected = sum(node.op_type == "LayerNormalization" for node in model.graph.node)
        counts = count_layers(parsed(fused, name))
        assert expected > 0
        assert sum(n for (kind, _), n in counts.items() if kind == "NORMALIZATION") == expected
        assert not [key for key in counts if key[0] == "REDUCE"]


def test_compute_precision(fused: Bundle) -> None:
    """In a half-precision graph only the islands that its manifest names compute in float32."""
    for name in (IMAGE_ENCODER, MASK_DECODER):
        policy = fused.manifest.precision_policy[name]
        places = tuple(island for island in policy["fp32_islands"] if island.startswith("/"))
        compute = [layer for layer in layers_of(parsed(fused, name)) if layer.type.name in COMPUTE]
        single = [layer.name for layer in compute if layer.get_output(0).dtype.name == "FLOAT"]
        half = [layer.name for layer in compute if layer.get_output(0).dtype.name == "HALF"]
        assert len(single) + len(half) == len(compute) > 0
        if fused.manifest.precision == "fp32":
            assert not half
            continue
        assert [layer for layer in single if not any(place in layer for place in places)] == []
        assert len(half) > len(single)


def test_builds_with_dynamic_profiles(fused: Bundle) -> None:
    """The encoder is the same for every fusion."""
    graphs = [IMAGE_ENCODER, MASK_DECODER] if fused.manifest.token_fusion == "independent" else [MASK_DECODER]
    built = build_engines(fused, target="rtx", graphs=graphs)
    assert [engine.entry.graph for engine in built] == graphs


def test_trained_model(demo_bundle_fp16: Bundle) -> None:
    encoder = count_layers(parsed(demo_bundle_fp16, IMAGE_ENCODER))
    assert encoder["MATRIX_MULTIPLY", "FLOAT"] == encoder["CONVOLUTION", "FLOAT"] == 0
    assert encoder["SOFTMAX", "FLOAT"] > 0
    assert encoder["SOFTMAX", "HALF"] == 0


def test_node_names_reach_tensorrt(demo_bundle_fp16: Bundle) -> None:
    names = {layer.name for layer in layers_of(parsed(demo_bundle_fp16, IMAGE_ENCODER))}
    assert any(name.startswith("/image_encoder/blocks.0/attn/") for name in names)
