"""Independent, sum or product: what the HQ token is made of, measured on the demo model.

    python -m benchmarks ablation --work ablation --docs --plot docs/ablation.svg

Trains only the HQ parameters of a frozen SAM, for every kind of token from the same seeds, scenes, prompts and steps.
What is finished in --work is not repeated, so an interrupted call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.recording import Record
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.precision.policy import PRECISIONS
from samhq_exporter.weights.checkpoint import checkpoint_of_model, load_checkpoint
from samhq_runtime.files import write_whole

from .ablation_runs import Setting, of_plain_sam, plain_sam, runs_of_seed
from .ablation_statistics import curve_means, curve_table, differences, means, report

_LEAST_SEEDS = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained models and finished runs")
    parser.add_argument("--sam", type=Path, default=DEMO_CHECKPOINT, help="its SAM part is the frozen SAM of all runs")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--precisions", nargs="*", choices=PRECISIONS, default=["fp32", "fp16"])
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each, a seed at a time")
    parser.add_argument("--plot", type=Path, metavar="SVG", help="where the curves go")
    parser.add_argument("--hq-steps", type=int, default=640)
    parser.add_argument("--scenes", type=int, default=500, help="scenes drawn for training")
    parser.add_argument("--held-out", type=int, default=40, help="scenes drawn for the evaluation")
    parser.add_argument("--curve-every", type=int, default=80, help="steps between the points of the curves")
    parser.add_argument("--curve-scenes", type=int, default=8, help="held-out scenes of which these are")
    parser.add_argument("--batch", type=int, default=2, help="images per step")
    parser.add_argument("--objects", type=int, default=4, help="objects prompted per image and step")
    parser.add_argument("--learning-rate", type=float, default=2e-3)


def measure(options: argparse.Namespace, record: Record) -> None:
    """The record is made of the runs in --work, finished ones and new."""
    if (got := len(set(options.seeds))) < _LEAST_SEEDS:
        raise SystemExit(f"--seeds: got {got}, expected at least {_LEAST_SEEDS} for intervals; give more")
    plain = plain_sam(load_checkpoint(options.sam).sam_hq)
    setting = _setting(options, checkpoint_of_model(plain).sha256)
    record.require_setting(setting.to_json())
    runs = [run for runs in _each_seed(setting, options) for run in runs]
    bare = of_plain_sam(plain, setting, options.precisions)
    record.content |= {
        "seeds": sorted(options.seeds),
        "training_cpu_seconds": round(sum(run["cpu_seconds"] for run in runs)),
        "plain_sam": bare,
        "means": means(runs),
        "differences": differences(runs, bare),
        "curves": curve_means(runs),
        "trained": runs,
    }
    record.save()
    if options.plot:
        _plot(record.content["curves"], options.plot)


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    return {"ablation": report(content), "ablation curves": curve_table(content["curves"])}


def _setting(options: argparse.Namespace, sam_sha256: str) -> Setting:
    names = ("sam", "hq_steps", "scenes", "held_out", "curve_every", "curve_scenes")
    common = {name: getattr(options, name) for name in (*names, "batch", "objects", "learning_rate")}
    return Setting(**common, sam_sha256=sam_sha256)


def _each_seed(setting: Setting, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    task = partial(runs_of_seed, setting, work=options.work, precisions=options.precisions)
    if options.workers == 1:
        yield from map(task, options.seeds)
        return
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(task, options.seeds)


def _plot(curves: list[dict[str, Any]], path: Path) -> None:
    """One panel per prompt: the mean over the seeds, and a band from the lowest to the highest."""
    from matplotlib.figure import Figure

    prompts = list(dict.fromkeys(row["prompt"] for row in curves))
    figure = Figure(figsize=(4.8 * len(prompts), 3.6), layout="constrained")
    for axes, prompt in zip(figure.subplots(1, len(prompts), squeeze=False)[0], prompts, strict=True):
        for variant in dict.fromkeys(row["variant"] for row in curves):
            rows = [row for row in curves if (row["prompt"], row["variant"]) == (prompt, variant)]
            steps = [row["step"] for row in rows]
            style = "--" if "start of" in variant else "-"
            (line,) = axes.plot(steps, [row["mean"] for row in rows], style, label=variant)
            lowest, highest = ([row[name] for row in rows] for name in ("min", "max"))
            axes.fill_between(steps, lowest, highest, alpha=0.1, color=line.get_color())
        axes.set(xlabel="steps", ylabel="mIoU of SAM + HQ", title=f"{prompt} prompts")
    axes.legend(fontsize="small")
    write_whole(path, lambda partial: figure.savefig(partial, metadata={"Date": None}))
