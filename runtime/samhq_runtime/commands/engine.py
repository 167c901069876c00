"""`samhq engine`: argv -> options -> build_engines -> what was built, in a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..callbacks import Show
from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import ConfigError
from ..nvidia.flavour import FLAVOURS
from ..nvidia.options import REFITTABLE
from ..nvidia.profiles import DEFAULT_RANGES, Range, parse_ranges
from ..tables import format_table
from .engine_report import add_report_options, report
from .locate import add_locate_options, locate
from .options import add_verify_key
from .progress_bar import open_bar

if TYPE_CHECKING:
    from ..engine import BuiltEngine

_RANGE_HELP = {
    "images": "images encoded, or kept for the decoder, at once",
    "prompts": "prompts decoded at once",
    "points": "points per prompt; a box counts as two, points without a box as one more than given",
    "combinations": "masks per prompt",
}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    engine = commands.add_parser(
        "engine",
        help="build TensorRT engines from a bundle's graphs",
        description="Build TensorRT engines from a bundle's graphs and enter them in its manifest. "
        "Precision is the graphs': export a bundle in another precision for another engine.",
    )
    engine.set_defaults(run=_engine)
    engine.add_argument("bundle", type=Path)
    add_verify_key(engine)
    engine.add_argument(
        "--target",
        choices=tuple(FLAVOURS),
        default="tensorrt",
        help="tensorrt: for the GPU of this machine; rtx: for RTX GPUs, ahead of time, needs none (default: tensorrt)",
    )
    engine.add_argument(
        "--graph", choices=(IMAGE_ENCODER, MASK_DECODER), action="append", default=[], help="only this one; repeatable"
    )
    for name, help_text in _RANGE_HELP.items():
        engine.add_argument(
            f"--{name}",
            metavar="MIN:USUAL:MAX",
            help=f"{help_text} (default: {DEFAULT_RANGES[name]}); several with commas make several profiles",
        )
    _add_builder_options(engine)
    engine.add_argument("--overwrite", action="store_true", help="replace an engine of the same graph and target")
    _add_checks(engine)
    add_report_options(engine)
    add_locate_options(engine)


def _add_checks(engine: argparse.ArgumentParser) -> None:
    """What to do instead of building, and whether a build is checked."""
    check = engine.add_mutually_exclusive_group()
    check.add_argument("--no-verify", action="store_true", help="do not run the engines on this GPU before adding them")
    check.add_argument(
        "--verify", action="store_true", help="build nothing; check the engines that are there on this GPU"
    )
    check.add_argument(
        "--trtexec", action="store_true", help="build nothing; print the commands that build the graphs with trtexec"
    )
    check.add_argument(
        "--report", action="store_true", help="build nothing; list the kernels of the engines that are there"
    )
    check.add_argument(
        "--locate",
        action="store_true",
        help="build nothing; name the first node at which the engine departs from the ONNX graph (extra `debug`)",
    )


def _add_builder_options(engine: argparse.ArgumentParser) -> None:
    engine.add_argument("--workspace", type=int, metavar="MB", help="most scratch memory on the GPU (default: all)")
    engine.add_argument("--low-memory", action="store_true", help="need less memory while building; slower")
    engine.add_argument("--optimization-level", type=int, metavar="0..5", help="0 builds fastest, 5 searches longest")
    engine.add_argument(
        "--version-compatible", action="store_true", help="also loads in other versions of the same major TensorRT"
    )
    engine.add_argument(
        "--hardware-compatible", action="store_true", help="runs on every GPU since Ampere, a little slower"
    )
    engine.add_argument(
        "--refittable",
        nargs="?",
        const="all",
        choices=REFITTABLE,
        help="weights can be replaced in the built engine: all of them (without a value), or only the HQ token",
    )
    engine.add_argument(
        "--tf32", action="store_true", help="let float32 graphs compute with TensorFloat-32; faster, less exact"
    )
    engine.add_argument(
        "--compute-capability",
        metavar="8.6,8.9",
        default="",
        help="GPUs to build for ahead of time, with --target rtx (default: "
        f"{', '.join(FLAVOURS['rtx'].default_capabilities)}; 7.5 is Turing)",
    )


def _engine(options: argparse.Namespace) -> None:
    if options.gpu and not options.report:
        raise ConfigError("--gpu: only with --report; engines are built for the GPU of this machine")
    if options.against and not options.locate:
        raise ConfigError("--against: only with --locate")
    if options.report:
        report(options)
    elif options.locate:
        locate(options)
    elif options.verify:
        _verify(options)
    elif options.trtexec:
        _print_trtexec(options)
    else:
        _build(options)


def _verify(options: argparse.Namespace) -> None:
    from ..engine import verify_built

    entries = verify_built(options.bundle, target=options.target, notice=_notice)
    if entries[0].parity:
        print(format_parity(entries[0].parity))
        print(f"\nverified on {entries[0].parity['gpu']}; noted in {options.bundle}")


def _build(options: argparse.Namespace) -> None:
    from ..engine import EngineOptions, build_engines

    built = build_engines(
        options.bundle,
        target=options.target,
        graphs=options.graph,
        ranges=_ranges(options),
        options=EngineOptions(
            workspace=options.workspace,
            low_memory=options.low_memory,
            optimization_level=options.optimization_level,
            version_compatible=options.version_compatible,
            hardware_compatible=options.hardware_compatible,
            refittable=options.refittable,
            tf32=options.tf32,
            compute_capabilities=tuple(options.compute_capability.split(",")) if options.compute_capability else (),
        ),
        overwrite=options.overwrite,
        verify=not options.no_verify,
        progress=show_progress,
        notice=_notice,
    )
    print_built(built, options.bundle)


def _ranges(options: argparse.Namespace) -> dict[str, tuple[Range, ...]]:
    texts = {name: getattr(options, name) for name in _RANGE_HELP}
    return {name: parse_ranges(name, text) for name, text in texts.items() if text is not None}


def _print_trtexec(options: argparse.Namespace) -> None:
    from ..bundle import load_bundle
    from ..nvidia.trtexec import trtexec_command

    bundle, ranges = load_bundle(options.bundle), _ranges(options)
    for name in options.graph or (IMAGE_ENCODER, MASK_DECODER):
        entry = bundle.manifest.graphs[name]
        print(trtexec_command(bundle.path / entry.file, entry.spec, ranges))


def print_built(built: Sequence[BuiltEngine], bundle: Path) -> None:
    """What was built, for which GPU, and whether it was checked there."""
    from ..engine import FLAVOURS

    rows = [(b.entry.file, f"{b.bytes / 1e6:.1f} MB", f"{b.seconds:.1f} s", str(len(b.entry.profiles))) for b in built]
    print(format_table(("engine", "size", "build time", "profiles"), rows))
    entry = built[0].entry
    place = f"for {entry.gpu} ({entry.compute_capability})" if entry.gpu else "ahead of time"
    checked = f"verified on {entry.parity['gpu']}" if entry.parity else "not verified on a GPU"
    print(f"\nbuilt with {FLAVOURS[entry.flavour].product} {entry.version}, {place}; {checked}; now in {bundle}")
    if entry.parity:
        print(f"\n{format_parity(entry.parity)}")


def format_parity(parity: Mapping[str, Any]) -> str:
    """The figures of a check on the target, as a table."""
    sides = [name for name in ("pytorch", "onnx") if name in parity]
    rows = [
        (f"{label} {name}", *(f"{parity[side][kind][name]:{style}}" for side in sides))
        for kind, label, style in (("mask_iou", "mask IoU", ".5f"), ("relative", "max error / range", ".2e"))
        for name in parity[sides[0]][kind]
    ]
    return format_table(("engines on the GPU", *(f"against {side}" for side in sides)), rows)


def _notice(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def show_progress(label: str) -> Iterator[Show]:
    bar = open_bar(label)
    try:
        yield bar.show
    finally:
        bar.close()
