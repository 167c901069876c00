"""Traced graphs -> the graphs that ship: policies stated, measured on calibration images where needed, and applied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import onnx_ir as ir

from samhq_runtime.contract import ModelSizes
from samhq_runtime.errors import ConfigError

from ..passes import simplify
from ..passes.matching import matches, unused
from ..steps import Step
from ..tracing.modules import Graph
from ..tracing.trace import trace
from .forms import TypedGraph, type_graph
from .measuring import completed, measure
from .options import PrecisionOptions
from .policy import TABLE, PrecisionPolicy, policy_of
from .report import decisions


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
    policies = {name: _stated(model, options, sizes.family) for name, model in models.items()}
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


def _require_all_used(models: Iterable[ir.Model], patterns: Sequence[str]) -> None:
    mistyped = unused(patterns, [node for model in models for node in model.graph])
    if mistyped:
        raise ConfigError(
            f"--keep-fp32 {', '.join(mistyped)}: no node has such a name or operator; --precision-report lists them all"
        )


def _stated(model: ir.Model, options: PrecisionOptions, family: str) -> PrecisionPolicy:
    here = tuple(p for p in options.keep_fp32 if any(matches(node, p) for node in model.graph))
    name, fusion = str(model.graph.name), options.token_fusion
    stated = policy_of(options.precision, name, token_fusion=fusion, family=family)
    return replace(stated, keep_fp32=here)
