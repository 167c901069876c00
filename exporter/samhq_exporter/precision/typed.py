"""Traced graphs -> the graphs that ship: policies stated, measured on calibration images where needed, and applied."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, ModelSizes
from samhq_runtime.errors import ConfigError, GraphError
from samhq_runtime.frames.geometry import preprocess

from ..architecture import PIXEL_MEAN, PIXEL_STD
from ..passes import check_rules, simplify
from ..passes.half import to_half
from ..passes.int8 import activations_of, to_int8
from ..passes.matching import matches, unused
from ..scenes.sample_prompts import prompt_feeds
from ..tracing.modules import Graph
from ..tracing.trace import trace
from .calibration import CalibrationImage, CalibrationSet
from .clipping import int8_scale
from .measured import SAFETY, Decision, decisions, float16_islands, int8_nodes, require_half_io
from .policy import TABLE, Precision, PrecisionPolicy, policy_of
from .ranges import RangeRecorder

Report = Callable[[Iterable[Decision]], None]
Step = Callable[[str], AbstractContextManager[object]]
_EMBEDDINGS = frozenset({"image_embeddings", "hq_features"})


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asked for.

    Attributes:
        precision: a row of `precision.TABLE`.
        token_fusion: whose node the decoder must contain.
        keep_fp32: patterns of nodes that stay float32 whatever the policy says.
        calibration: what ranges are measured on.
        clipping: rule from measured values to int8 scales.
        report: takes the decision on every node; asking for it has the ranges measured in any precision.
    """

    precision: str
    token_fusion: str
    keep_fp32: tuple[str, ...]
    calibration: CalibrationSet
    clipping: str
    report: Report | None


@dataclass(frozen=True)
class TypedGraph:
    """A graph as it ships, and the policy it follows."""

    model: ir.Model
    policy: PrecisionPolicy


def typed_graphs(
    graphs: Sequence[Graph], sizes: ModelSizes, folder: Path, *, wish: Wish, step: Step
) -> dict[str, TypedGraph]:
    """Both graphs in the wished precision.

    Args:
        graphs: encoder and decoder, traced here.
        sizes: of the model.
        folder: where the instrumented graphs lie while ranges are measured.
        wish: what the user asked for.
        step: progress display.

    Raises:
        ConfigError: a pattern of `keep_fp32` that names no node.
        GraphError: the graphs cannot have this precision.
    """
    models = {}
    for graph in graphs:
        with step(f"export {graph.spec.name}"):
            models[graph.spec.name] = traced(graph)
    _require_all_used(models.values(), wish.keep_fp32)
    row = TABLE[wish.precision]
    policies = {name: _stated(model, wish) for name, model in models.items()}
    if row.needs_ranges or wish.report is not None:
        policies, largest = _measured(models, policies, sizes, folder, wish=wish, step=step)
        if wish.report is not None:
            wish.report([d for name in models for d in decisions(models[name], largest[name], policies[name])])
    return {
        name: type_graph(model, policies[name], precision=wish.precision, token_fusion=wish.token_fusion)
        for name, model in models.items()
    }


def traced(graph: Graph) -> ir.Model:
    """The simplified float32 graph that every precision starts from."""
    model = trace(graph)
    simplify(model)
    return model


def type_graph(model: ir.Model, policy: PrecisionPolicy, *, precision: str, token_fusion: str) -> TypedGraph:
    """A traced graph in its final types, changed in place; `precision` says what its inputs, outputs and opset are.

    Raises:
        GraphError: the graph cannot follow the policy, or breaks a rule.
    """
    row = TABLE[precision]
    apply_policy(model, policy=policy, half_io=_half_io(row))
    if row.opset is not None:
        model.opset_imports[""] = row.opset
    check_rules(model, token_fusion=token_fusion)
    return TypedGraph(model, policy)


def _half_io(row: Precision) -> frozenset[str]:
    return _EMBEDDINGS if row.embeddings == "float16" else frozenset()


def _require_all_used(models: Iterable[ir.Model], patterns: Sequence[str]) -> None:
    mistyped = unused(patterns, [node for model in models for node in model.graph])
    if mistyped:
        raise ConfigError(
            f"--keep-fp32 {', '.join(mistyped)}: no node has such a name or operator; --precision-report lists them all"
        )


def _stated(model: ir.Model, wish: Wish) -> PrecisionPolicy:
    name = str(model.graph.name)
    here = tuple(p for p in wish.keep_fp32 if any(matches(node, p) for node in model.graph))
    return replace(policy_of(wish.precision, name, token_fusion=wish.token_fusion), keep_fp32=here)


def _measured(
    models: Mapping[str, ir.Model],
    policies: Mapping[str, PrecisionPolicy],
    sizes: ModelSizes,
    folder: Path,
    *,
    wish: Wish,
    step: Step,
) -> tuple[dict[str, PrecisionPolicy], dict[str, dict[str, float]]]:
    """Policies with their measured part, and the largest magnitude of every value, by graph."""
    row, encoder, decoder = TABLE[wish.precision], models[IMAGE_ENCODER], models[MASK_DECODER]
    fragment = row.int8.get(IMAGE_ENCODER)
    layers = [] if fragment is None else int8_nodes(encoder, fragment, wish.keep_fp32)
    inputs = {str(value.name) for node in layers for value in activations_of(node)}
    images = wish.calibration.images
    with (
        step(f"measure activation ranges on {len(images)} images"),
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        RangeRecorder(encoder, Path(temporary), sampled=inputs) as encode,
        RangeRecorder(decoder, Path(temporary)) as decode,
    ):
        for load in images:
            _run(encode, decode, load, sizes)
        scale = {v: int8_scale(encode.magnitudes(v), encode.largest[v], wish.clipping) for v in inputs}
        largest = {IMAGE_ENCODER: encode.largest, MASK_DECODER: decode.largest}
    scales = {str(n.name): tuple(scale[str(v.name)] for v in activations_of(n)) for n in layers}
    source = {"images": len(images), "source": wish.calibration.source}
    return {
        name: _with_ranges(models[name], policy, largest[name], scales if name == IMAGE_ENCODER else {}, source, wish)
        for name, policy in policies.items()
    }, largest


def _run(encode: RangeRecorder, decode: RangeRecorder, load: Callable[[], CalibrationImage], sizes: ModelSizes) -> None:
    sample = load()
    hw = (sample.image.shape[0], sample.image.shape[1])
    features = encode.run({"input_image": preprocess(sample.image, sizes.image_size, PIXEL_MEAN, PIXEL_STD)})
    for feeds in prompt_feeds(sizes, hw, sample.boxes):
        decode.run({**features, **feeds})


def _with_ranges(
    model: ir.Model,
    policy: PrecisionPolicy,
    largest: Mapping[str, float],
    scales: Mapping[str, tuple[float, ...]],
    source: Mapping[str, object],
    wish: Wish,
) -> PrecisionPolicy:
    if policy.compute == "float16":
        require_half_io(model, largest, _half_io(TABLE[wish.precision]))
        islands = float16_islands(model, largest, policy)
        return replace(policy, measured_islands=islands, ranges={**source, "safety": SAFETY})
    if scales:
        return replace(policy, int8_layers=dict(scales), ranges={**source, "clipping": wish.clipping})
    return replace(policy, ranges=source)


def apply_policy(model: ir.Model, *, policy: PrecisionPolicy, half_io: frozenset[str]) -> None:
    """Type a simplified float32 graph.

    Args:
        model: as `simplify` leaves it; changed in place.
        policy: compute type, fp32 islands and int8 layers.
        half_io: graph inputs and outputs that take the compute type; all others stay float32.

    Raises:
        GraphError: a weight does not fit the compute type, or an island matches nothing.
    """
    if policy.compute in ("float16", "bfloat16"):
        to_half(
            model,
            compute=policy.compute,
            islands=policy.islands,
            half_io=half_io,
            island_nodes=policy.measured_islands,
        )
    elif policy.compute != "float32":
        raise GraphError(f"no pass for compute type {policy.compute}")
    if policy.int8_layers:
        to_int8(model, layers=policy.int8_layers)
