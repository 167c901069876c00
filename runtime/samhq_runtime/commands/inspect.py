"""`samhq inspect`: what a bundle is, in tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..bundle import Bundle, load_bundle
from ..contract import GraphSpec, TensorSpec
from ..manifest import EngineEntry, Manifest
from ..nvidia.rebuild import sizes_of
from ..tables import format_table
from .options import add_verify_key

_ENGINE_HEADER = ("engine", "built with", "for", "profiles", "flags", "verified on")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    inspect = commands.add_parser("inspect", help="show what a bundle holds, after checking every hash")
    inspect.add_argument("bundle", type=Path)
    add_verify_key(inspect)
    inspect.set_defaults(run=_inspect)


def _inspect(options: argparse.Namespace) -> None:
    print(describe(load_bundle(options.bundle)))


def describe(bundle: Bundle) -> str:
    """Everything a user wants to know of a verified bundle, as text."""
    m = bundle.manifest
    files = [(name, f"{entry.bytes / 1e6:.1f} MB", entry.sha256[:12]) for name, entry in m.files.items()]
    engines = [_engine(name, entry, m.graphs[entry.graph].spec) for name, entry in m.engines.items()]
    parts = [
        f"{bundle.path}: complete and unchanged",
        format_table(("", "value"), _facts(m)),
        format_table(("tensor", "", "dtype", "shape"), _tensors(m)),
        format_table(("file", "size", "sha256"), files),
        format_table(("parity with PyTorch", "value"), _parity(m)),
    ]
    if engines:
        parts.append(format_table(_ENGINE_HEADER, engines))
    return "\n\n".join(parts)


def _facts(m: Manifest) -> list[tuple[str, str]]:
    """Which model, of which weights, and what made the graphs."""
    sources = [
        (label, f"{m.checkpoint[f'{part}_file']} ({m.checkpoint.get(f'{part}_sha256', '')[:12]})")
        for label, part in (("base", "base"), ("HQ token", "hq_token"))
        if f"{part}_file" in m.checkpoint
    ]
    return [
        ("variant", m.variant),
        ("precision", m.precision),
        ("family", m.sizes.family),
        ("token fusion", m.token_fusion if m.sizes.has_hq else f"{m.token_fusion}: plain SAM, no HQ part"),
        ("image size", str(m.sizes.image_size)),
        ("opset", str(m.opset)),
        ("checkpoint", f"{m.checkpoint.get('file')} ({m.checkpoint.get('sha256', '')[:12]})"),
        *sources,
        *(
            (f"fp32 islands, {name}", ", ".join(policy["fp32_islands"]) or "-")
            for name, policy in m.precision_policy.items()
        ),
        *((f"built with {tool}", version) for tool, version in m.tools.items()),
    ]


def _tensors(m: Manifest) -> list[tuple[str, str, str, str]]:
    return [
        (f"{graph}: {tensor.name}", kind, tensor.dtype, _shape(tensor))
        for graph, entry in m.graphs.items()
        for kind, specs in (("input", entry.spec.inputs), ("output", entry.spec.outputs))
        for tensor in specs
    ]


def _parity(m: Manifest) -> list[tuple[str, str]]:
    return [
        *((f"mask IoU {name}", f"{iou:.5f}") for name, iou in m.parity.get("mask_iou", {}).items()),
        *((f"{name}, max error / range", f"{t['relative']:.2e}") for name, t in m.parity.get("tensors", {}).items()),
    ]


def _engine(name: str, entry: EngineEntry, spec: GraphSpec) -> tuple[str, ...]:
    """Which TensorRT, GPU, sizes of each profile and options."""
    gpu = f"{entry.gpu} ({entry.compute_capability})" if entry.gpu else "ahead of time"
    flags = ", ".join(f"{flag} {value}" if value is not True else flag for flag, value in entry.flags.items())
    profiles = (", ".join(f"{n} {r}" for n, r in sizes_of(spec, profile).items()) for profile in entry.profiles)
    return (
        name,
        f"{entry.flavour} {entry.version}",
        f"{gpu}, {entry.platform or '?'}",
        "; ".join(profiles),
        flags or "-",
        str(entry.parity.get("gpu", "not verified")),
    )


def _shape(tensor: TensorSpec) -> str:
    text = ", ".join(str(size) for size in tensor.shape)
    return f"({text})" + (" optional" if tensor.optional else "")
