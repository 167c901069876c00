"""Whole exports of a tiny model: every token fusion and precision, dynamic sizes, and the parity gate."""

from __future__ import annotations

import copy
import importlib.metadata
import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from samhq_exporter.architecture import TOKEN_FUSIONS
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.model import Sam
from samhq_exporter.passes.rules import FORBIDDEN
from samhq_exporter.precision.policy import policy_of
from samhq_exporter.tracing.modules import Graph
from samhq_exporter.tracing.trace import trace
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import GraphError, ParityError
from samhq_runtime.parity import EXPORT_TOLERANCES
from tests.support.bundles import export
from tests.support.models import save_checkpoint

Arrays = dict[str, NDArray[np.generic]]
CASES = [(fusion, precision) for precision in ("fp32", "fp16") for fusion in TOKEN_FUSIONS]  # others: test_precision.py


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def exported(
    request: pytest.FixtureRequest, tiny_checkpoint: Path, tiny_bundle_of: Callable[[str, str], Bundle]
) -> tuple[Bundle, Sam]:
    fusion, precision = request.param
    sam = load_checkpoint(tiny_checkpoint, token_fusion=fusion).sam
    return tiny_bundle_of(precision, fusion), sam


def graph_of(bundle: Bundle, name: str) -> ir.Graph:
    return ir.load(bundle.path / f"{name}.onnx").graph


def test_manifest_says_what_was_done(exported: tuple[Bundle, Sam]) -> None:
    bundle, sam = exported
    manifest = bundle.manifest
    assert manifest.token_fusion == sam.fusion_mode
    assert manifest.precision_policy.keys() == {IMAGE_ENCODER, MASK_DECODER}
    for name, policy in manifest.precision_policy.items():
        expected = policy_of(manifest.precision, name, token_fusion=manifest.token_fusion)
        assert policy["compute"] == expected.compute == {"fp32": "float32", "fp16": "float16"}[manifest.precision]
        assert tuple(policy["fp32_islands"]) == expected.fp32_islands
    islands = manifest.precision_policy[MASK_DECODER]["fp32_islands"]
    fused = manifest.token_fusion != "independent"
    assert ("/token_fusion/" in islands) == (fused and manifest.precision == "fp16")
    assert manifest.parity["mask_iou"]["selected"] >= EXPORT_TOLERANCES[manifest.precision].iou


def test_another_distribution_of_onnxruntime_will_do(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where onnxruntime-gpu is installed, no distribution is called onnxruntime."""

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return importlib.metadata.version(name)

    monkeypatch.setattr("samhq_exporter.bundle.write.version", version)
    tools = export(tiny_checkpoint, tmp_path / "bundle").manifest.tools
    assert tools["onnxruntime"] == onnxruntime.__version__
    assert tools["torch"] == torch.__version__


def test_the_fusion_is_one_named_node_fed_by_both_tokens(exported: tuple[Bundle, Sam]) -> None:
    bundle, sam = exported
    graph = graph_of(bundle, MASK_DECODER)
    nodes = [n for n in graph if (n.name or "").startswith("/token_fusion/") and n.op_type != "Cast"]
    op_type = TOKEN_FUSIONS[sam.fusion_mode]
    assert [node.name for node in nodes] == ([] if op_type is None else [f"/token_fusion/{op_type}"])
    assert "hq_token" in graph.initializers
    for node in nodes:
        assert node.op_type == op_type
        assert {value.name for value in node.inputs} == {"sam_token", "hq_token"} <= graph.initializers.keys()
        assert node.outputs[0].dtype == ir.DataType.FLOAT  # in every precision
        assert node.outputs[0].uses()


def test_no_forbidden_operators(exported: tuple[Bundle, Sam]) -> None:
    for name in (IMAGE_ENCODER, MASK_DECODER):
        assert not {node.op_type for node in graph_of(exported[0], name)} & FORBIDDEN


def test_dtypes(exported: tuple[Bundle, Sam]) -> None:
    bundle, _ = exported
    half = bundle.manifest.precision == "fp16"
    for name in (IMAGE_ENCODER, MASK_DECODER):
        graph = graph_of(bundle, name)
        for value in (*graph.inputs, *graph.outputs):
            if value.name in ("image_embeddings", "hq_features"):
                assert value.dtype == (ir.DataType.FLOAT16 if half else ir.DataType.FLOAT)
            else:
                assert value.dtype in (ir.DataType.FLOAT, ir.DataType.INT64)
        weights = [v for v in graph.initializers.values() if v.dtype == ir.DataType.FLOAT16]
        assert (sum(v.const_value.nbytes for v in weights if v.const_value is not None) > 10_000) == half


OTHER_TOKEN = 50 * np.random.default_rng(7).normal(size=(1, 64)).astype(np.float32)


def decoder_feeds(images: int = 2, prompts: int = 3, points: int = 5) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "point_coords": rng.uniform(0, 128, (prompts, points, 2)).astype(np.float32),
        "point_labels": rng.integers(-1, 4, (prompts, points)).astype(np.float32),
        "mask_input": rng.normal(0, 5, (prompts, 1, 32, 32)).astype(np.float32),
        "has_mask_input": np.ones(1, np.float32),
        "image_index": rng.integers(0, images, prompts),
        "mask_weights": np.eye(5, dtype=np.float32),
    }


@torch.inference_mode()
def torch_outputs(sam: Sam, input_image: NDArray[np.float32], feeds: Arrays) -> dict[str, NDArray[np.float32]]:
    features = sam.encode_image(torch.from_numpy(input_image))
    outputs = sam.decode_masks(*features, **{name: torch.from_numpy(array) for name, array in feeds.items()})
    names = ("image_embeddings", "hq_features", "low_res_logits", "iou_predictions")
    return {name: t.numpy() for name, t in zip(names, (*features, *outputs), strict=True)}


@pytest.mark.parametrize("override", [False, True], ids=["own token", "other token"])
def test_two_images_three_prompts_five_points(exported: tuple[Bundle, Sam], override: bool) -> None:
    bundle, sam = exported
    rng = np.random.default_rng(1)
    input_image = rng.normal(size=(2, 3, 128, 128)).astype(np.float32)
    feeds = decoder_feeds()
    if override:
        feeds["hq_token"] = OTHER_TOKEN
    with bundle.open(IMAGE_ENCODER, threads=1) as encode, bundle.open(MASK_DECODER, threads=1) as decode:
        features = encode({"input_image": input_image})
        got = {**features, **decode({**features, **feeds})}
    for name, expected in torch_outputs(sam, input_image, feeds).items():
        assert got[name].shape == expected.shape
        error = np.abs(got[name].astype(np.float32) - expected).max()
        assert error <= EXPORT_TOLERANCES[bundle.manifest.precision].relative * np.ptp(expected), name


def test_the_default_token_is_the_models_and_another_one_matters(exported: tuple[Bundle, Sam]) -> None:
    """By more than the tolerance above, else it would prove nothing."""
    bundle, sam = exported
    feeds, spec = decoder_feeds(), bundle.manifest.graphs[IMAGE_ENCODER].spec
    rng = np.random.default_rng(2)
    features = {t.name: rng.normal(size=(2, *t.shape[1:])).astype(t.dtype) for t in spec.outputs}  # type: ignore[misc]
    with bundle.open(MASK_DECODER, threads=1) as decode:
        default, same, other = (
            decode({**features, **feeds, **token})["low_res_logits"]
            for token in ({}, {"hq_token": sam.mask_decoder.hq_token.weight.numpy()}, {"hq_token": OTHER_TOKEN})
        )
    np.testing.assert_array_equal(same, default)
    changed = np.abs(other - default).max() / np.ptp(default)
    assert changed > 2 * EXPORT_TOLERANCES[bundle.manifest.precision].relative


@pytest.mark.parametrize("exported", [case for case in CASES if "fp32" in case], ids="-".join, indirect=True)
def test_another_token_is_a_checkpoint_with_that_token(exported: tuple[Bundle, Sam], tmp_path: Path) -> None:
    """For each fusion: the graph that is fed a token, and the one exported with it, decode to the same masks."""
    bundle, sam = exported
    tuned = copy.deepcopy(sam)
    tuned.mask_decoder.hq_token.weight.copy_(torch.from_numpy(OTHER_TOKEN))
    checkpoint = save_checkpoint(tuned, tmp_path / "tuned.pth")
    tuned_bundle = export(checkpoint, tmp_path / "bundle", token_fusion=sam.fusion_mode)
    rng, results = np.random.default_rng(3), []
    specs = bundle.manifest.graphs[IMAGE_ENCODER].spec.outputs
    feeds = decoder_feeds() | {t.name: rng.normal(size=(2, *t.shape[1:])).astype(t.dtype) for t in specs}  # type: ignore[misc]
    for each, token in ((bundle, {"hq_token": OTHER_TOKEN}), (tuned_bundle, {}), (bundle, {})):
        with each.open(MASK_DECODER, threads=1) as decode:
            results.append(decode({**feeds, **token})["low_res_logits"])
    overridden, exported_so, original = results
    span = np.ptp(exported_so)
    assert np.abs(overridden - exported_so).max() <= 1e-5 * span
    assert np.abs(original - exported_so).max() > 1e-2 * span


def _renamed(fused: ir.Node) -> None:
    fused.name = "/Mul_of_tokens"


def _folded(fused: ir.Node) -> None:
    token = next(value for value in fused.inputs if value is not None and value.name == "hq_token")
    ir.convenience.replace_all_uses_with(fused.outputs[0], token)


@pytest.mark.parametrize("lose", [_renamed, _folded])
@pytest.mark.parametrize(("fusion", "node"), [("hadamard", "/token_fusion/Mul"), ("sum", "/token_fusion/Add")])
def test_a_graph_without_its_fusion_is_not_shipped(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fusion: str,
    node: str,
    lose: Callable[[ir.Node], None],
) -> None:
    def trace_and_lose(graph: Graph) -> ir.Model:
        model = trace(graph)
        for fused in [n for n in model.graph if n.name == node]:
            lose(fused)
        return model

    monkeypatch.setattr("samhq_exporter.precision.typed.trace", trace_and_lose)
    with pytest.raises(GraphError, match=node):
        export(tiny_checkpoint, tmp_path / "bundle", token_fusion=fusion)
    assert not list(tmp_path.iterdir())


def test_node_names_are_unique_and_say_where_they_are(exported: tuple[Bundle, Sam]) -> None:
    for graph in (IMAGE_ENCODER, MASK_DECODER):
        nodes = list(graph_of(exported[0], graph))
        names = [str(node.name) for node in nodes]
        assert len(names) == len(set(names))
        for node, name in zip(nodes, names, strict=True):
            assert re.fullmatch(r"/?[A-Za-z_][\w.]*(/[A-Za-z_][\w.]*)*", name), name
            assert node.op_type in name.rpartition("/")[2] or re.search("/to_fp(16|32)$", name), name
    assert {"/blocks.0/", "/blocks.3/", "/neck/"} <= set(_places(exported[0], IMAGE_ENCODER))


def _places(bundle: Bundle, graph: str) -> Iterator[str]:
    for node in graph_of(bundle, graph):
        yield from (f"/{part}/" for part in str(node.name).split("/"))


def test_fp16_twice_is_the_same_to_the_byte(demo_bundle_fp16: Bundle, tmp_path: Path) -> None:
    """The graphs, measured islands included; figures of parity may differ in their last bits between runs."""
    again = export(DEMO_CHECKPOINT, tmp_path / "bundle", precision="fp16")
    graphs = sorted(demo_bundle_fp16.path.glob("*.onnx*"))
    assert len(graphs) == 2
    for path in graphs:
        assert path.read_bytes() == (again.path / path.name).read_bytes(), path.name


def _scale(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return array * array.dtype.type(1.2)


def _one_nan(array: NDArray[np.generic]) -> NDArray[np.generic]:
    array = array.copy()
    array.flat[3] = np.nan
    return array


@pytest.mark.parametrize("damage", [_scale, _one_nan])
@pytest.mark.parametrize("name", [IMAGE_ENCODER, MASK_DECODER])
def test_a_graph_that_differs_from_torch_is_not_shipped(
    tiny_bundle: Bundle,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damage: Callable[[NDArray[np.generic]], NDArray[np.generic]],
) -> None:
    """The export writes the known good graphs, one of them with its largest weight changed."""

    def write(*arguments: Any) -> None:
        path = arguments[-1]
        model = ir.external_data.load_to_model(ir.load(tiny_bundle.path / path.name))
        if path.stem == name:
            weights = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.FLOAT]
            largest = max(weights, key=lambda v: v.const_value.nbytes)  # type: ignore[union-attr]
            assert largest.const_value is not None
            largest.const_value = ir.tensor(damage(largest.const_value.numpy()), name=largest.name)
        ir.save(model, path)

    for function in ("save_graph", "save_forms"):
        monkeypatch.setattr(f"samhq_exporter.bundle.write.{function}", write)
    with pytest.raises(ParityError, match=r"No bundle was written"):
        export(tiny_checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
