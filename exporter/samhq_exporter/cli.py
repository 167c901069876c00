"""`samhq-export`: export a checkpoint, or run one of the other commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from samhq_runtime import __version__
from samhq_runtime.commands.running import run_command

from .commands import export, train_hq


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 after an error message, 130 after Ctrl-C."""
    options = build_parser().parse_args(argv)
    return run_command(lambda: options.run(options), extras=options.extras)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="samhq-export",
        description="Export a SAM-HQ checkpoint to a verified bundle of two ONNX graphs. "
        "Without --checkpoint the small demo model that comes with the package is exported.",
    )
    parser.add_argument("--version", action="version", version=f"samhq-export {__version__}")
    export.add_options(parser)
    train_hq.add_command(parser.add_subparsers(metavar="COMMAND", title="other commands"))
    return parser
