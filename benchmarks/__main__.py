"""`python -m benchmarks` lists the benchmarks, `python -m benchmarks NAME --help` explains one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from .registry import BENCHMARKS


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        epilog="\n".join(f"{name:20}{text}" for name, text in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME", help="one of the list below")
    if not argv:
        return parser.print_help()
    name = parser.parse_args(argv[:1]).name
    sys.argv[0] = f"python -m benchmarks {name}"
    return import_module(f"benchmarks.measure.{name}").main(argv[1:])


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(sys.argv[1:])
