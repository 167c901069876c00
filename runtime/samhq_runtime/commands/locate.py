"""`samhq engine --locate`: the first node that departs, in a table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle import NOT_ON_CPU, Bundle, load_bundle
from ..errors import BackendUnavailable, ConfigError
from ..nvidia.gpu import current_gpu
from ..tables import format_table

if TYPE_CHECKING:
    from ..debug import Departure

_HEADER = ("graph", "first node that departs", "operator", "max error / range", "of what it reads", "--keep-fp32")


def add_locate_options(engine: argparse.ArgumentParser) -> None:
    engine.add_argument(
        "--against",
        type=Path,
        metavar="BUNDLE",
        help="with --locate: compare this bundle's graphs with those of a float32 one, on the CPU; needs no GPU",
    )


def locate(options: argparse.Namespace) -> None:
    """Print where the bundle's graphs, or the engine TensorRT makes of them here, depart."""
    from ..debug import locate_in_engine, locate_in_graphs

    bundle = load_bundle(options.bundle)
    if options.against is not None:
        reference = _reference(bundle, load_bundle(options.against))
        print(format_departures(locate_in_graphs(bundle, bundle.graph_files, reference.graph_files)))
        return
    if current_gpu() is None:
        raise BackendUnavailable(
            "--locate: no NVIDIA GPU here to run an engine on; compare the graphs on the CPU with --against FP32_BUNDLE"
        )
    print(format_departures(locate_in_engine(bundle)))


def format_departures(found: Mapping[str, Departure | None]) -> str:
    rows = [
        (graph, d.node, d.operator, f"{d.error:.2e}", f"{d.before:.2e}", d.pattern)
        if d
        else (graph, "nothing departs", "-", "-", "-", "-")
        for graph, d in found.items()
    ]
    return format_table(_HEADER, rows)


def _reference(bundle: Bundle, reference: Bundle) -> Bundle:
    """`reference`, if its graphs are those of `bundle` in float32."""
    if bundle.manifest.precision in NOT_ON_CPU:
        raise ConfigError(
            f"--locate: {bundle.manifest.precision} graphs do not run on the CPU; "
            f"samhq-export --precision {bundle.manifest.precision} --locate compares an emulation"
        )
    if reference.manifest.precision != "fp32":
        raise ConfigError(f"--against {reference.path}: is {reference.manifest.precision}, expected an fp32 bundle")
    keys = ("variant", "token_fusion", "sizes")
    got, expected = ([str(getattr(b.manifest, key)) for key in keys] for b in (reference, bundle))
    if got != expected:
        raise ConfigError(
            f"--against {reference.path}: is of another model: {', '.join(got[:2])}, "
            f"expected {', '.join(expected[:2])} and the same sizes"
        )
    return reference
