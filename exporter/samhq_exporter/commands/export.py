"""`samhq-export` without a command: argv -> ExportConfig -> export_bundle -> what was written, in a table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samhq_runtime.commands.engine import print_built, show_progress
from samhq_runtime.commands.locate import format_departures
from samhq_runtime.nvidia.flavour import FLAVOURS
from samhq_runtime.tables import format_table

from ..architecture import TOKEN_FUSIONS
from ..config import ExportConfig
from ..precision.policy import CLIPPING_RULES, PRECISIONS, TABLE
from ..weights.released import RELEASES

if TYPE_CHECKING:
    from ..pipeline import ExportResult
    from ..precision.report import Decision
    from ..verification.locate import Located


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, extras="export,cpu")
    _add_model_options(parser)
    _add_precision_options(parser)
    parser.add_argument("--image", type=Path, help="picture for the parity check and the preview")
    parser.add_argument(
        "--engine", choices=FLAVOURS, help="also build TensorRT engines, with the defaults of `samhq engine`"
    )
    parser.add_argument(
        "--triton", type=Path, metavar="REPOSITORY", help="also write Triton models, as `samhq triton` does"
    )
    parser.add_argument("--sign", type=Path, metavar="PEM", help="sign the bundle with this Ed25519 private key")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle, and Triton models")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=ExportConfig.checkpoint,
        help=f"weights file (.pth, .safetensors), Hugging Face folder, or a name to download: {', '.join(RELEASES)}",
    )
    parser.add_argument(
        "--base", type=Path, help="weights file or name of the whole SAM, for a checkpoint of the mask decoder alone"
    )
    parser.add_argument("--output", type=Path, help="bundle folder (default: ./samhq-<checkpoint>-<precision>)")
    parser.add_argument("--variant", help="fail unless the checkpoint is this variant (default: what it is)")
    parser.add_argument(
        "--token-fusion",
        choices=TOKEN_FUSIONS,
        help="how the HQ token is made from SAM's (default: the file's metadata, else independent)",
    )
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="interpolate the weights to N-pixel inputs (default: as trained)"
    )
    parser.add_argument("--hq-token", type=Path, metavar="FILE", help="tuned HQ token instead of the checkpoint's")


def _add_precision_options(parser: argparse.ArgumentParser) -> None:
    measured = ", ".join(name for name, row in TABLE.items() if row.needs_ranges)
    parser.add_argument("--precision", choices=PRECISIONS, default=ExportConfig.precision)
    parser.add_argument(
        "--keep-fp32",
        nargs="+",
        action=Extend,
        default=(),
        metavar="PATTERN",
        help="nodes that stay float32: operator types, parts of node names that start with /, or globs",
    )
    parser.add_argument(
        "--calibration",
        nargs="+",
        action=Extend,
        type=Path,
        default=(),
        metavar="PATH",
        help=f"images or folders of images to measure activations on ({measured}; default: drawn scenes)",
    )
    parser.add_argument(
        "--clipping",
        choices=CLIPPING_RULES,
        default=ExportConfig.clipping,
        help="rule for int8 and fp8 scales",
    )
    parser.add_argument(
        "--precision-report", action="store_true", help="print what every node computes in, and its measured range"
    )
    parser.add_argument(
        "--locate",
        action="store_true",
        help="also name the first node that departs from float32, if the graphs miss their tolerance (extra `debug`)",
    )


class Extend(argparse.Action):
    """Collects the values of a repeated option into one tuple."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option_string: object = None
    ) -> None:
        setattr(namespace, self.dest, (*getattr(namespace, self.dest), *values))


def run(options: argparse.Namespace) -> None:
    config = ExportConfig(**{field.name: getattr(options, field.name) for field in fields(ExportConfig)})
    from ..pipeline import export_bundle

    report = print_report if options.precision_report else None
    located = _print_located() if options.locate else None
    result = export_bundle(config, step=show_step, report=report, located=located, engine_progress=show_progress)
    print_result(result)
    if result.engines:
        print()
        print_built(result.engines, result.path)


def _print_located() -> Located:
    """Asked before the export: whether Polygraphy is there."""
    from ..verification.locate import Located  # noqa: F401

    return lambda found: print(f"\n{format_departures(found)}\n")


def print_report(rows: Iterable[Decision]) -> None:
    from ..precision.report import format_report

    print(format_report(rows))


@contextmanager
def show_step(name: str) -> Iterator[None]:
    """One line per step on stderr, with the time it took."""
    print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        print("failed", file=sys.stderr)
        raise
    print(f"{time.perf_counter() - start:.1f} s", file=sys.stderr)


def print_result(result: ExportResult) -> None:
    manifest, parity = result.manifest, result.parity
    hq = f"token fusion {manifest.token_fusion}" if manifest.sizes.has_hq else "no HQ part: plain SAM"
    if result.notice:
        print(result.notice)
    print(f"\n{manifest.variant}, {manifest.precision}, {hq}; against PyTorch:\n")
    errors = [(n, f"{t.max_abs:.2e}", f"{t.mean_abs:.2e}", f"{t.relative:.2e}") for n, t in parity.tensors.items()]
    print(format_table(("output", "max abs error", "mean abs error", "max error / range"), errors))
    print()
    print(format_table(("mask", "min IoU"), [(n, f"{iou:.5f}") for n, iou in parity.mask_iou.items()]))
    print()
    files = [(name, f"{entry.bytes / 1e6:.1f} MB") for name, entry in manifest.files.items()]
    print(format_table(("file", "size"), files))
    print(f"\nbundle:  {result.path}\npreview: {result.path / 'preview.png'}")
