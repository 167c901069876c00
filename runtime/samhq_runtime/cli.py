"""`samhq`: use a bundle from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import __version__
from .commands import (
    bench,
    compare,
    doctor,
    encode,
    engine,
    everything,
    inspect,
    predict,
    raster,
    serve,
    sign,
    triton,
    tune,
)
from .commands import eval as eval_
from .commands.options import require_signed, with_negative_values
from .commands.running import run_command

# In the order of `samhq --help`.
COMMANDS = (
    predict,
    everything,
    raster,
    encode,
    inspect,
    sign,
    engine,
    tune,
    bench,
    serve,
    triton,
    eval_,
    compare,
    doctor,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 1 after an error message, 130 after Ctrl-C."""
    options = build_parser().parse_args(with_negative_values(sys.argv[1:] if argv is None else argv))
    return run_command(lambda: _run(options), extras=options.extras)


def _run(options: argparse.Namespace) -> None:
    require_signed(options)
    options.run(options)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="samhq", description="Segment images with an exported SAM-HQ bundle.")
    parser.add_argument("--version", action="version", version=f"samhq {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    parser.set_defaults(extras="cpu")
    for module in COMMANDS:
        module.add_command(commands)
    return parser
