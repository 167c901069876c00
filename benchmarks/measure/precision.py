"""Masks and sizes of every precision against float32 PyTorch, on the demo model.

    python -m benchmarks precision --docs
    python -m benchmarks precision --scenes 20 --clipping minmax percentile mse entropy --output clipping.json

The second compares the rules for int8 scales. bf16 is emulated (the same roundings in float32 arithmetic).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.recording import Record
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.demo.fidelity import mask_ious
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.precision.policy import CLIPPING_RULES, DEFAULT_CLIPPING, PRECISIONS
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.bundle import load_bundle
from samhq_runtime.files import sha256_of
from samhq_runtime.tables import format_table


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenes", type=int, default=40, help="held-out scenes")
    parser.add_argument("--clipping", nargs="+", choices=CLIPPING_RULES, default=[DEFAULT_CLIPPING])


def measure(options: argparse.Namespace, record: Record) -> None:
    """One row per precision, int8 once per clipping rule; demo model, held-out scenes."""
    record.require_setting({"checkpoint_sha256": sha256_of(DEMO_CHECKPOINT), "scenes": options.scenes})
    rows = record.content.setdefault("rows", [])
    known = [(row["precision"], row["clipping"]) for row in rows]
    for precision in PRECISIONS:
        for rule in options.clipping if precision == "int8" else [""]:
            if (precision, rule) not in known:
                rows.append({"precision": precision, "clipping": rule, **quality(precision, rule, options.scenes)})
                record.save()


def quality(precision: str, rule: str, scenes: int) -> dict[str, Any]:
    """Mean and least mask IoU per kind of prompt, and bytes of the graphs."""
    with tempfile.TemporaryDirectory() as folder:
        config = ExportConfig(output=Path(folder) / "bundle", precision=precision, clipping=rule or DEFAULT_CLIPPING)
        bundle = load_bundle(export_bundle(config).path)
        ious = mask_ious(bundle, load_checkpoint(DEMO_CHECKPOINT).sam, held_out_seeds(scenes))
    row: dict[str, Any] = {"objects": len(ious["box"])}
    for kind, values in ious.items():
        row |= {f"{kind}_mean_iou": round(mean(values), 5), f"{kind}_min_iou": round(min(values), 5)}
    row["bytes"] = sum(entry.bytes for name, entry in bundle.manifest.files.items() if ".onnx" in name)
    return row


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    rows = content["rows"]
    lines = [
        (
            f"{row['precision']} {row['clipping']}".strip(),
            *(f"{row[f'{kind}_{figure}_iou']:.4f}" for kind in ("box", "point") for figure in ("mean", "min")),
            f"{row['bytes'] / 1e6:.2f} MB",
        )
        for row in rows
    ]
    table = format_table(("precision", "box mean", "box min", "point mean", "point min", "graphs"), lines)
    return {"precision": f"Demo model, {rows[0]['objects']} objects per kind of prompt:\n\n{table}"}
