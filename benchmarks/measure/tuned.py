"""What `samhq tune` tries and chooses on this machine, and that `auto` then runs it.

    python -m benchmarks tuned DEMO_FP32 VIT_TINY_FP32 VIT_B_FP32 --min-iou 0.98 --docs

Choices are kept in a folder of this run, the user's own are left alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.recording import Record, described
from samhq_runtime import Bundle, Predictor, load_bundle
from samhq_runtime.auto import store
from samhq_runtime.contract import IMAGE_ENCODER
from samhq_runtime.session.providers import text_of
from samhq_runtime.tables import format_table
from samhq_runtime.tune import TuneOptions, Tuning, tune
from samhq_runtime.tune.report import row_of

_HEADER = ("bundle", "graph", "way", "ms", "peak MB", "least IoU", "")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundles", nargs="+", type=Path, help="one of each variant and precision")
    parser.add_argument("--min-iou", type=float, default=0.98, help="least IoU of every mask with PyTorch's")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one timing")


def measure(options: argparse.Namespace, record: Record) -> None:
    record.require_setting({"min_iou": options.min_iou, "prompts": options.prompts})
    known = record.content.setdefault("bundles", {})
    tuning = TuneOptions(min_iou=options.min_iou, prompts=options.prompts, seconds=options.seconds)
    for bundle in map(load_bundle, options.bundles):
        name = f"{bundle.manifest.variant} {bundle.manifest.precision}"
        if name not in known:
            known[name] = {"bundle": described(bundle.path), **_figures(bundle, tuning)}
            record.save()


def breaches(content: Mapping[str, Any]) -> list[str]:
    """`auto` runs something else than what was chosen, or nothing was right."""
    found = content["bundles"].items()
    lost = [f"{name}: nothing computes PyTorch's masks" for name, of_it in found if not of_it["chosen"]]
    return lost + [
        f"{name}: chosen {of_it['chosen']}, auto runs {of_it['auto']}"
        for name, of_it in found
        if of_it["chosen"] != of_it["auto"]
    ]


def _figures(bundle: Bundle, options: TuneOptions) -> dict[str, Any]:
    result = tune(bundle, options, lambda text: print(text, file=sys.stderr))
    rows = [row_of(tried, result.chosen) for tried in result.tried]
    if result.ways is None:
        return {"rows": rows, "chosen": "", "auto": ""}
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, XDG_CACHE_HOME=folder):
        store.save(bundle.path, result.ways)
        with Predictor(bundle, providers="auto") as predictor:
            auto = text_of(predictor.providers)
    return {"rows": rows, "chosen": str(result.ways), "auto": auto, **_gain(result)}


def _gain(result: Tuning) -> dict[str, float]:
    """Milliseconds of an image and its prompts: by the rule that holds untuned, which is tried first; as chosen."""
    first = [next(t for t in result.tried if (t.graph == IMAGE_ENCODER) == encoder) for encoder in (True, False)]
    return {
        "untuned_ms": 1000 * sum(tried.seconds or 0.0 for tried in first),
        "tuned_ms": 1000 * result.seconds,
    }


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    bundles = content["bundles"]
    rows = [(name, *row) for name, of_it in bundles.items() for row in of_it["rows"]]
    gains = [_gain_row(name, of_it) for name, of_it in bundles.items() if of_it["chosen"]]
    header = ("bundle", "untuned", "tuned", "times faster", "`auto` runs")
    return {"tuned": f"{format_table(_HEADER, rows)}\n\n{format_table(header, gains)}"}


def _gain_row(name: str, of_it: Mapping[str, Any]) -> Sequence[str]:
    before, after = of_it["untuned_ms"], of_it["tuned_ms"]
    return name, f"{before:.0f} ms", f"{after:.0f} ms", f"{before / after:.1f}", of_it["auto"]
