"""How far runs of the training differ: `python -m samhq_exporter.demo.spread SHIPPED OTHER... --output FILE`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_OPTIONS = ("seed", "sam_steps", "hq_steps", "threads")
_METRICS = ("mean_iou", "mean_boundary_iou")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="results.json of each run, that of the shipped file first")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(argv)
    results = with_spread([json.loads(path.read_text()) for path in options.runs])
    options.output.write_text(json.dumps(results, indent=2) + "\n")


def with_spread(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first run's results, a table of all runs, and lowest and highest of each mean of the released output."""
    runs = [_row(run) for run in results]
    names = [name for name in runs[0] if name.endswith(_METRICS)]
    spread = {name: [min(run[name] for run in runs), max(run[name] for run in runs)] for name in names}
    return {**results[0], "runs": runs, "spread": spread}


def _row(results: dict[str, Any]) -> dict[str, Any]:
    row = {name: results["options"][name] for name in _OPTIONS}
    for prompt, by_output in results["held_out"].items():
        row |= {f"{prompt}_{metric}": by_output["sam_and_hq"][metric] for metric in _METRICS}
    return row | ({"remark": results["remark"]} if "remark" in results else {})
