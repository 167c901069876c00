"""`samhq tune`: bundles -> tables of what was tried, and the choices kept for `auto`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BenchmarkError, ConfigError
from .options import PROVIDER_NAMES, add_verify_key

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..tune import TuneOptions, Tuning

_DESCRIPTION = """Time every way to run a bundle that this machine has, each in a process of its own, hold its masks
against those that PyTorch computed at export, and keep the quickest that are right: `--providers auto` runs them, as
does the default of `samhq predict`, `everything`, `raster`, `encode` and `serve`. Let nothing else run meanwhile."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    tune = commands.add_parser(
        "tune",
        help="find the quickest right way to run a bundle on this machine, and keep it",
        description=_DESCRIPTION,
    )
    tune.set_defaults(run=_tune)
    tune.add_argument("bundle", type=Path)
    add_verify_key(tune)
    tune.add_argument(
        "--sibling",
        type=Path,
        action="append",
        default=[],
        metavar="BUNDLE",
        help="the same weights in another precision, tuned and compared as well; repeatable",
    )
    tune.add_argument(
        "--min-iou",
        type=float,
        default=0.0,
        metavar="X",
        help="least IoU of every mask with PyTorch's (default: the tolerance of the bundle's own precision)",
    )
    tune.add_argument("--prompts", type=int, default=8, metavar="N", help="prompts of an image (default: 8)")
    tune.add_argument(
        "--providers",
        type=lambda text: tuple(text.split(",")),
        default=(),
        help=f"only these, of {', '.join(PROVIDER_NAMES)}, openvino:cpu:bf16... (default: all that are here)",
    )
    tune.add_argument(
        "--threads", type=_numbers, default=(), metavar="N,N", help="tried on CPUs (default: what its cores suggest)"
    )
    tune.add_argument("--seconds", type=float, default=5.0, help="of one timing, from three calls on (default: 5)")
    tune.add_argument("--timeout", type=float, default=600.0, metavar="S", help="seconds for one try (default: 600)")


def _tune(options: argparse.Namespace) -> None:
    from ..auto.store import require_writable
    from ..bundle import load_bundle
    from ..bundle.reference import REFERENCE_NAME
    from ..tune import TuneOptions

    require_writable()
    tuning = TuneOptions(
        min_iou=options.min_iou,
        prompts=options.prompts,
        providers=options.providers,
        threads=options.threads,
        seconds=options.seconds,
        timeout=options.timeout,
    )
    bundles = [load_bundle(path) for path in (options.bundle, *options.sibling)]
    for bundle in bundles:
        if not (bundle.path / REFERENCE_NAME).is_file():
            raise ConfigError(f"{bundle.path}: has no {REFERENCE_NAME} to hold masks against; export it again")
        if bundle.manifest.checkpoint.get("sha256") != bundles[0].manifest.checkpoint.get("sha256"):
            raise ConfigError(f"{bundle.path}: other weights than {bundles[0].path}; siblings differ in precision only")
    _finish([_one(bundle, tuning) for bundle in bundles])


def _one(bundle: Bundle, options: TuneOptions) -> Tuning:
    """Tune, print, keep."""
    from ..auto.store import save
    from ..tune import tune
    from ..tune.report import report

    tuning = tune(bundle, options, lambda text: print(text, file=sys.stderr))
    print(report(tuning, bundle.manifest.precision))
    if tuning.ways is not None:
        print(f"\nkept in {save(bundle.path, tuning.ways)}: --providers auto now runs {tuning.ways}\n")
    return tuning


def _finish(tunings: list[Tuning]) -> None:
    """The quickest of several bundles; an error if nothing was found for one."""
    found = [tuning for tuning in tunings if tuning.ways is not None]
    if len(found) > 1:
        best = min(found, key=lambda tuning: tuning.seconds)
        print(f"quickest of these bundles: {best.bundle}, {best.seconds * 1000:.0f} ms an image and its prompts")
    lost = [str(tuning.bundle) for tuning in tunings if tuning.ways is None]
    if lost:
        raise BenchmarkError(f"{', '.join(lost)}: no way that is here computes PyTorch's masks; see the reasons above")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected whole numbers with commas between them") from None
