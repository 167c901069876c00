"""How cost grows with prompts and images: time and memory, a straight line through them, and its fixed part.

    python -m benchmarks scaling --bundle vit_b_fp32 --output benchmarks/results/scaling.json --plot docs/scaling.png

Every size runs in a process of its own, as in `samhq bench`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samhq_runtime.bench.cases import DECODER, ENCODER, END_TO_END, Case, Limits, plan
from samhq_runtime.bench.machine import describe_machine
from samhq_runtime.bench.plot import require_matplotlib
from samhq_runtime.bench.runner import run_cases
from samhq_runtime.bench.sample_image import sample_image
from samhq_runtime.errors import BenchmarkError
from samhq_runtime.files import write_whole
from samhq_runtime.frames.image_files import write_png
from samhq_runtime.tables import format_table

_PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_IMAGES = (1, 2, 4, 8)
_IMAGE_HW = (1200, 1800)
# What a line is fitted to: the measure, what grows, and what the fixed part holds.
_SERIES = {
    "decoder": (DECODER, "prompts", "reading the weights and starting the operators, once per call"),
    "encoder": (ENCODER, "images", "reading the weights and starting the operators, once per call"),
    "end to end": (END_TO_END, "prompts", "reading and encoding the image"),
}


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    if options.plot:
        require_matplotlib()
    measures = [_SERIES[name][0] for name in options.series]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        write_png(picture, sample_image(_IMAGE_HW))
        cases = plan([options.bundle], providers=["cpu"], measures=measures, prompts=options.prompts, images=[1])
        cases = [case for case in cases if case.measure != ENCODER]
        if ENCODER in measures:
            cases += plan([options.bundle], providers=["cpu"], measures=[ENCODER], prompts=[1], images=options.images)
        rows = [row for case in cases for row in _measured(case, picture, options)]
    series = {name: _series(rows, *_SERIES[name]) for name in options.series}
    if options.output:
        results = {"machine": describe_machine(), "series": series}
        write_whole(options.output, lambda partial: partial.write_text(json.dumps(results, indent=1) + "\n"))
    if options.plot:
        _plot(series, options.plot)
    print(_table(series))


def _measured(case: Case, picture: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The row of one size; none, and the reason on stderr, if it does not fit this machine."""
    try:
        return run_cases(
            [case],
            image=picture,
            limits=Limits(warm_ups=1, repeats=7, seconds=options.seconds),
            threads=options.threads,
            cold_starts=1,
            notice=lambda text: print(text, file=sys.stderr),
        )
    except BenchmarkError as e:
        print(f"  left out: {e}", file=sys.stderr)
        return []


def _series(rows: list[dict[str, Any]], measure: str, size: str, fixed_part: str) -> dict[str, Any]:
    rows = [row for row in rows if row["measure"] == measure]
    sizes = [row[size] for row in rows]
    seconds = [row["p50"] for row in rows]
    memory = [row["host_bytes"]["peak_work"] for row in rows]
    return {
        "grows": size,
        "sizes": sizes,
        "seconds": seconds,
        "peak_bytes": memory,
        "time_line": _line(sizes, seconds),
        "memory_line": _line(sizes, memory),
        "fixed_part": fixed_part,
    }


def _line(sizes: list[int], values: list[float]) -> dict[str, float]:
    """Least squares of relative errors, so that small sizes count as much as large ones."""
    weights = 1 / np.asarray(values)
    each, fixed = np.polyfit(sizes, values, 1, w=weights) if len(sizes) > 1 else (0.0, values[0])
    worst = np.abs((fixed + each * np.asarray(sizes)) * weights - 1).max()
    return {"fixed": float(fixed), "each": float(each), "worst_relative_error": float(worst)}


def _table(series: dict[str, Any]) -> str:
    header = ("", "fixed ms", "each ms", "off by at most", "fixed MB", "each MB", "off by at most")
    rows = []
    for name, content in series.items():
        line, memory = content["time_line"], content["memory_line"]
        rows.append(
            (
                f"{name}, {content['sizes'][0]} to {content['sizes'][-1]} {content['grows']}",
                f"{line['fixed'] * 1e3:.1f}",
                f"{line['each'] * 1e3:.1f}",
                f"{line['worst_relative_error']:.0%}",
                f"{memory['fixed'] / 1e6:.0f}",
                f"{memory['each'] / 1e6:.1f}",
                f"{memory['worst_relative_error']:.0%}",
            )
        )
    return format_table(header, rows)


def _plot(series: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(series), 6.4), layout="constrained")
    axes = figure.subplots(2, len(series), squeeze=False)
    for column, (name, content) in enumerate(series.items()):
        quantities = (("seconds", "time_line", 1.0, "seconds"), ("peak_bytes", "memory_line", 1e6, "peak memory, MB"))
        for row, (values, line, scale, label) in enumerate(quantities):
            place, fit = axes[row][column], content[line]
            sizes = np.asarray(content["sizes"])
            place.plot(sizes, np.asarray(content[values]) / scale, "o", label="measured")
            place.plot(sizes, (fit["fixed"] + fit["each"] * sizes) / scale, "-", label="line")
            place.axhline(fit["fixed"] / scale, linestyle=":", color="grey", label="fixed part")
            place.set(xlabel=content["grows"], ylabel=label, title=name if row == 0 else None)
            place.set_ylim(bottom=0)
            place.legend(fontsize="small")
    write_whole(path, figure.savefig)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--series", nargs="+", choices=_SERIES, default=list(_SERIES))
    parser.add_argument("--prompts", nargs="+", type=int, default=list(_PROMPTS))
    parser.add_argument("--images", nargs="+", type=int, default=list(_IMAGES))
    parser.add_argument("--seconds", type=float, default=20.0, help="most per size")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--plot", type=Path, help="PNG")
    return parser.parse_args(argv)
