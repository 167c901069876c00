"""The program: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from samhq_runtime.errors import SamHqError

from .pages import ROOT, require_markers, write_between_markers
from .recording import caption, open_record, read_record
from .registry import BENCHMARKS, OVERVIEWS, Benchmark, Measurement, list_table

_USAGE = """\
python -m benchmarks [--list]           this list
python -m benchmarks NAME [options]     measure NAME; --help tells its options
python -m benchmarks tables [NAME...]   write the tables of the docs anew, from what is recorded"""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    help_wanted = {"--help", "-h"} & set(arguments[:2]) and arguments[0] not in BENCHMARKS
    if not arguments or arguments[0] == "--list" or help_wanted:
        print(f"{_USAGE}\n\n{list_table(linked=False)}")
    elif arguments[0] == "tables":
        write_tables(arguments[1:])
    elif arguments[0] in BENCHMARKS:
        run(BENCHMARKS[arguments[0]], arguments[1:])
    else:
        raise SystemExit(f"{arguments[0]}: expected `tables` or one of {', '.join(BENCHMARKS)}")


def run(benchmark: Benchmark, argv: Sequence[str]) -> None:
    """Measure what is missing, record it, print the tables, and with --docs write them."""
    module = benchmark.load()
    options = parse(benchmark, module, argv)
    if options.docs:
        for marker, page in benchmark.tables.items():
            require_markers(ROOT / page, marker)
    record = open_record(
        options.output, resume=options.resume, overwrite=options.overwrite, libraries=benchmark.libraries
    )
    module.measure(options, record)
    print(caption(record.content), *module.tables(record.content).values(), sep="\n\n")
    if wrong := benchmark.breaches(record.content):
        raise SystemExit("\n".join(wrong))
    if options.docs:
        write_tables([benchmark.name])


def published(benchmark: Benchmark) -> dict[str, str]:
    """The tables of the docs by marker, as the record gives them."""
    content = read_record(benchmark.record)
    tables = benchmark.load().tables(content)
    return {marker: f"{caption(content)}\n\n{tables[marker]}" for marker in benchmark.tables}


def write_tables(names: Sequence[str]) -> None:
    """Of these benchmarks, or of all; and what is made of several."""
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise SystemExit(f"{', '.join(unknown)}: expected some of {', '.join(BENCHMARKS)}")
    for benchmark in (BENCHMARKS[name] for name in names or BENCHMARKS):
        if benchmark.tables:
            for marker, text in published(benchmark).items():
                write_between_markers(ROOT / benchmark.tables[marker], marker, text)
    for marker, (page, table) in OVERVIEWS.items():
        write_between_markers(ROOT / page, marker, table())


def parse(benchmark: Benchmark, module: Measurement, argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {benchmark.name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_options(parser)
    group = parser.add_argument_group("record")
    group.add_argument(
        "--output", type=Path, metavar="JSON", help=f"default: benchmarks/results/{benchmark.record.name}"
    )
    group.add_argument("--resume", action="store_true", help="keep what the file has, measure the rest")
    group.add_argument("--overwrite", action="store_true", help="replace the file")
    if benchmark.tables:
        pages = ", ".join(dict.fromkeys(benchmark.tables.values()))
        group.add_argument("--docs", action="store_true", help=f"write the tables into {pages}")
    parser.set_defaults(docs=False)
    options = parser.parse_args(argv)
    if options.docs and options.output:
        parser.error("--docs: the docs show the default file; leave --output out")
    options.output = options.output or benchmark.record
    return options


if __name__ == "__main__":
    try:
        main()
    except SamHqError as e:
        raise SystemExit(f"error: {e}") from None
    except KeyboardInterrupt:
        print("\ninterrupted; what was recorded is kept, and --resume goes on with it", file=sys.stderr)
        raise SystemExit(130) from None
