"""How cost grows with prompts and images: time and memory, a straight line through them, and its fixed part.

    python -m benchmarks scaling --bundle vit_b_fp32 --plot docs/scaling.png --docs

Every size runs in a process of its own, as in `samhq bench`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages import format_seconds
from benchmarks.recording import Record, described
from samhq_runtime.bench.cases import DECODER, ENCODER, END_TO_END, Case, RepeatOptions, plan
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


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--series", nargs="+", choices=_SERIES, default=list(_SERIES))
    parser.add_argument("--prompts", nargs="+", type=int, default=list(_PROMPTS))
    parser.add_argument("--images", nargs="+", type=int, default=list(_IMAGES))
    parser.add_argument("--seconds", type=float, default=20.0, help="most per size")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="PNG")


def measure(options: argparse.Namespace, record: Record) -> None:
    if options.plot:
        require_matplotlib()
    record.require_setting({"bundle": described(options.bundle), "threads": options.threads})
    known = record.content.setdefault("series", {})
    for name in (name for name in options.series if name not in known):
        known[name] = _measured_series(name, options)
        record.save()
    if options.plot:
        _plot(known, options.plot)


def _measured_series(name: str, options: argparse.Namespace) -> dict[str, Any]:
    kind, size, fixed_part = _SERIES[name]
    sizes = {"prompts": [1], "images": [1], size: getattr(options, size)}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        write_png(picture, sample_image(_IMAGE_HW))
        cases = plan([options.bundle], providers=["cpu"], measures=[kind], **sizes)
        rows = [row for case in cases for row in _measured(case, picture, options)]
    return _series(rows, size, fixed_part)


def _measured(case: Case, picture: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The row of one size; none, and the reason on stderr, if it does not fit this machine."""
    try:
        return run_cases(
            [case],
            image=picture,
            repeats=RepeatOptions(warm_ups=1, repeats=7, seconds=options.seconds),
            threads=options.threads,
            cold_starts=1,
            notice=lambda text: print(text, file=sys.stderr),
        )
    except BenchmarkError as e:
        print(f"  left out: {e}", file=sys.stderr)
        return []


def _series(rows: list[dict[str, Any]], size: str, fixed_part: str) -> dict[str, Any]:
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


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    header = ("", "fixed", "each", "off by at most", "peak memory of 1", "of 8", "of the most")
    rows = []
    for name, series in content["series"].items():
        line, sizes = series["time_line"], series["sizes"]
        peaks = dict(zip(sizes, series["peak_bytes"], strict=True))
        rows.append(
            (
                f"{name}, {sizes[0]} to {sizes[-1]} {series['grows']}",
                *(format_seconds(line[part]) for part in ("fixed", "each")),
                f"{line['worst_relative_error']:.0%}",
                *(f"{peaks[size] / 1e9:.2f} GB" if size in peaks else "-" for size in (1, 8, sizes[-1])),
            )
        )
    return {"scaling": format_table(header, rows)}


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
