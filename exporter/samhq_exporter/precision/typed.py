"""Traced graphs -> the graphs that ship: policies stated, measured on calibration images where needed, and applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import onnx_ir as ir

from samhq_runtime.contract import ModelSizes
from samhq_runtime.errors import ConfigError, GraphError

from ..passes import check_rules, simplify
from ..passes.half import to_half
from ..passes.int8 import to_int8
from ..passes.matching import matches, unused
from ..steps import Step
from ..tracing.modules import Graph
from ..tracing.trace import trace
from .measured import decisions
from .measuring import completed, measure
from .options import PrecisionOptions
from .policy import TABLE, PrecisionPolicy, policy_of


@dataclass(frozen=True)
class TypedGraph:
    """A graph as it ships, and the policy it follows."""

    model: ir.Model
    policy: PrecisionPolicy


def typed_graphs(
    graphs: Sequence[Graph], sizes: ModelSizes, folder: Path, *, options: PrecisionOptions, step: Step
) -> dict[str, TypedGraph]:
    """Both graphs in the precision that was asked for.

    Args:
        graphs: encoder and decoder, traced here.
        sizes: of the model.
        folder: where the instrumented graphs lie while ranges are measured.
        options: what the user asked for.
        step: progress display.

    Raises:
        ConfigError: a pattern of `keep_fp32` that names no node.
        GraphError: the graphs cannot have this precision.
    """
    models = {}
    for graph in graphs:
        with step(f"export {graph.spec.name}"):
            models[graph.spec.name] = traced(graph)
    _require_all_used(models.values(), options.keep_fp32)
    policies = {name: _stated(model, options) for name, model in models.items()}
    if TABLE[options.precision].needs_ranges or options.report is not None:
        with step(f"measure activation ranges on {len(options.calibration.images)} images"):
            ranges = measure(models, sizes, folder, options)
        policies = {name: completed(policies[name], model, ranges, options) for name, model in models.items()}
        if options.report is not None:
            rows = (decisions(models[name], ranges.largest[name], policy) for name, policy in policies.items())
            options.report(chain.from_iterable(rows))
    return {
        name: type_graph(model, policies[name], precision=options.precision, token_fusion=options.token_fusion)
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
    apply_policy(model, policy=policy, half_io=row.half_io)
    if row.opset is not None:
        model.opset_imports[""] = row.opset
    check_rules(model, token_fusion=token_fusion)
    return TypedGraph(model, policy)


def _require_all_used(models: Iterable[ir.Model], patterns: Sequence[str]) -> None:
    mistyped = unused(patterns, [node for model in models for node in model.graph])
    if mistyped:
        raise ConfigError(
            f"--keep-fp32 {', '.join(mistyped)}: no node has such a name or operator; --precision-report lists them all"
        )


def _stated(model: ir.Model, options: PrecisionOptions) -> PrecisionPolicy:
    here = tuple(p for p in options.keep_fp32 if any(matches(node, p) for node in model.graph))
    stated = policy_of(options.precision, str(model.graph.name), token_fusion=options.token_fusion)
    return replace(stated, keep_fp32=here)


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
