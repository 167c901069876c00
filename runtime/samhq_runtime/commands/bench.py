"""`samhq bench`: argv -> cases -> rows -> table, JSON and plot; or two result files compared."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..bench.cases import MEASURES, RepeatOptions, plan
from ..errors import BenchmarkError, ConfigError
from .options import PROVIDER_NAMES, add_verify_key

_IMAGE_HW = (1200, 1800)
_PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    bench = commands.add_parser(
        "bench",
        help="measure time, memory and energy of a bundle on this machine",
        description="Measure bundles on this machine, every case in a process of its own; or compare two results.",
    )
    bench.set_defaults(run=_bench)
    bench.add_argument("bundles", type=Path, nargs="*", metavar="BUNDLE")
    add_verify_key(bench)
    bench.add_argument(
        "--providers",
        type=_words,
        default=["cpu"],
        help=f"measured one after another, of {', '.join(PROVIDER_NAMES)}, openvino:bf16... (default: cpu)",
    )
    bench.add_argument("--prompts", type=_sizes, default=[1, 8, 64], metavar="N,N", help="default: 1,8,64")
    bench.add_argument("--images", type=_sizes, default=[1, 4], metavar="N,N", help="default: 1,4")
    bench.add_argument("--measures", type=_words, default=list(MEASURES), help=f"default: {','.join(MEASURES)}")
    bench.add_argument("--image", type=Path, help="picture for cold starts and end to end (default: one is drawn)")
    _add_repeats(bench)
    bench.add_argument("--threads", type=int, default=0, help="CPU threads in one operator (default: one per core)")
    bench.add_argument("--output", type=Path, metavar="JSON", help="all figures, every single timing, the machine")
    bench.add_argument("--plot", type=Path, metavar="PNG", help="the same as a picture; needs the plot extra")
    bench.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="compare two --output files")
    bench.add_argument(
        "--max-regression",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="with --compare: fail if time or memory of a case grew by more (default: 0.1, that is 10 %%)",
    )


def _add_repeats(bench: argparse.ArgumentParser) -> None:
    usual = RepeatOptions()
    bench.add_argument("--repeats", type=int, default=usual.repeats, help=f"calls per case (default: {usual.repeats})")
    bench.add_argument(
        "--seconds",
        type=float,
        default=usual.seconds,
        help=f"stop repeating a case after this long, but not before three calls (default: {usual.seconds:.0f})",
    )
    bench.add_argument("--warm-ups", type=int, help="calls before (default: 3, on GPUs 20)")
    bench.add_argument("--cold-starts", type=int, default=5, help="processes for the cold start rows (default: 5)")


def _bench(options: argparse.Namespace) -> None:
    if options.compare:
        _compare(options)
    else:
        _measure(options)


def _measure(options: argparse.Namespace) -> None:
    from ..bench.machine import describe_machine
    from ..bench.plot import plot_results, require_matplotlib
    from ..bench.report import report
    from ..bench.results import write_results
    from ..bench.runner import run_cases
    from ..bundle import load_bundle

    _require_sense(options)
    if options.plot:
        require_matplotlib()
    repeats = RepeatOptions(warm_ups=options.warm_ups, repeats=options.repeats, seconds=options.seconds)
    sizes = {"prompts": options.prompts, "images": options.images}
    cases = plan(options.bundles, providers=options.providers, measures=options.measures, **sizes)
    bundles = {path.resolve().name: load_bundle(path).manifest for path in options.bundles}
    with _image_file(options.image) as image:
        rows = run_cases(
            cases,
            image=image,
            repeats=repeats,
            threads=options.threads,
            cold_starts=options.cold_starts,
            notice=lambda text: print(text, file=sys.stderr),
        )
    results = {
        "machine": describe_machine(),
        "settings": {"threads": options.threads, "image": options.image.name if options.image else list(_IMAGE_HW)},
        "bundles": {name: {"variant": m.variant, "precision": m.precision} for name, m in bundles.items()},
        "rows": rows,
    }
    print(report(results))
    if options.output:
        write_results(options.output, results)
    if options.plot:
        plot_results(results, options.plot)


@contextmanager
def _image_file(given: Path | None) -> Iterator[Path]:
    """The given image file, which can be read; or a drawn one, for as long as the block lasts."""
    from ..bench.sample_image import sample_image
    from ..frames.image_files import read_image, write_png

    if given:
        read_image(given)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, "picture.png")
        write_png(drawn, sample_image(_IMAGE_HW))
        yield drawn


def _compare(options: argparse.Namespace) -> None:
    from ..bench.compare import compare, comparison_table, differences
    from ..bench.results import read_results

    if options.bundles:
        raise ConfigError("--compare takes two result files and measures nothing; leave the bundles out")
    if options.max_regression < 0:
        raise ConfigError(f"--max-regression: got {options.max_regression}, expected 0 or more, such as 0.1 for 10 %")
    old, new = map(read_results, options.compare)
    for difference in differences(old, new):
        print(f"not the same: {difference}", file=sys.stderr)
    comparisons = compare(old, new)
    print(comparison_table(comparisons, most=options.max_regression))
    regressions = {c.name: c.regression(options.max_regression) for c in comparisons}
    worse = [f"{name}: {regression}" for name, regression in regressions.items() if regression]
    if worse:
        raise BenchmarkError(f"worse by more than {options.max_regression:.0%}: {'; '.join(worse)}")


def _require_sense(options: argparse.Namespace) -> None:
    if not options.bundles:
        raise ConfigError("no bundle: give one or more folders written by `samhq-export`, or --compare OLD NEW")
    unknown = [name for name in options.measures if name not in MEASURES]
    if unknown:
        raise ConfigError(f"unknown measure {', '.join(unknown)}; choose from {', '.join(MEASURES)}")
    if options.cold_starts < 1:
        raise ConfigError(f"--cold-starts: got {options.cold_starts}, expected 1 or more")
    if options.plot and options.plot.suffix.lower() not in _PLOT_SUFFIXES:
        raise ConfigError(f"--plot {options.plot}: expected a file that ends with {', '.join(_PLOT_SUFFIXES)}")
    for path in (options.output, options.plot):
        if path and not path.parent.is_dir():
            raise ConfigError(f"{path}: its folder does not exist; nothing was measured")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _sizes(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected whole numbers with commas between them") from None
