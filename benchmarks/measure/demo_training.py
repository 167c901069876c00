"""The demo model's figures as its training script wrote them: the shipped file's, and those of other seeds.

    python -m benchmarks demo_training --seeds 1 --work demo_runs --docs

trains another seed (`python -m samhq_exporter.demo.train`), from scratch or from the SAM of --exact-sam on, and keeps
its `results.json`. That of the shipped file lies beside it, in `samhq_exporter/demo`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.recording import Record
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.demo import train
from samhq_runtime.tables import format_table

_OUTPUTS = {"sam_and_hq": "SAM + HQ, the released output", "sam_only": "SAM alone", "hq_only": "HQ alone"}
_METRICS = {"mean_iou": "mIoU", "mean_boundary_iou": "boundary IoU"}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained models")
    parser.add_argument("--exact-sam", type=Path, metavar="FILE", help="skip the first stage: its SAM is in this file")


def measure(options: argparse.Namespace, record: Record) -> None:
    results = record.content.setdefault("seeds", {})
    names = {seed: str(seed) if options.exact_sam else f"{seed}, from scratch" for seed in options.seeds}
    for seed in (seed for seed in options.seeds if names[seed] not in results):
        folder = options.work / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        more = ["--exact-sam", str(options.exact_sam)] if options.exact_sam else []
        train.main(["--output", str(folder / "sam_hq_demo.safetensors"), *more, "--seed", str(seed)])
        results[names[seed]] = json.loads((folder / "results.json").read_text())
        record.save()


def shipped() -> dict[str, Any]:
    """What the training script wrote beside the shipped checkpoint."""
    return json.loads(DEMO_CHECKPOINT.with_name("results.json").read_text())


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    first, others = shipped(), content["seeds"]
    rows = [
        (prompt, text, *(f"{first['held_out'][prompt][output][metric]:.3f}" for metric in _METRICS))
        for prompt in first["held_out"]
        for output, text in _OUTPUTS.items()
    ]
    runs = {str(first["options"]["seed"]): first, **others}
    spread = [
        (
            prompt,
            *(f"{run['held_out'][prompt]['sam_and_hq'][metric]:.3f}" for metric in _METRICS for run in runs.values()),
        )
        for prompt in first["held_out"]
    ]
    header = ("SAM + HQ", *(f"{metric}, seed {seed}" for metric in _METRICS.values() for seed in runs))
    metrics = {"iou": "mIoU", "boundary_iou": "boundary IoU"}
    gains = [
        (str(seed), prompt, *(_points(run["hq_gain"][prompt][metric]) for metric in metrics))
        for seed, run in runs.items()
        for prompt in run["hq_gain"]
    ]
    return {
        "demo gains": format_table(("seed", "prompt", *metrics.values()), gains),
        "demo": format_table(("prompt", "output", *_METRICS.values()), rows),
        "demo seeds": format_table(header, spread),
    }


def _points(gain: Mapping[str, float]) -> str:
    """In hundredths, with the 95 % interval."""
    return f"{100 * gain['mean']:+.1f} ({100 * gain['low']:+.1f} … {100 * gain['high']:+.1f})"
