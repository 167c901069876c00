"""Every precision of SAM 2.1 against float32 PyTorch: what the gate of an export measures, and whether it passes.

    python -m benchmarks sam2_precision --sizes hiera_tiny --resume --docs

Weights are seeded, because none that were trained come with this project: values are spread otherwise than in trained
ones, so the figures say whether the graphs compute what they should, not what a precision costs a trained model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.recording import Record
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import ExportConfig
from samhq_exporter.pipeline import ExportResult, export_bundle
from samhq_exporter.precision.policy import PRECISIONS
from samhq_runtime.parity import EXPORT_TOLERANCES
from samhq_runtime.tables import format_table
from tests.support.sam2_reference import official_sam2, save_official

_ERRORS = ("features", "logits", "predicted IoU", "object score")
_HEADER = ("graphs", *_ERRORS, "least mask IoU", "best mask", "gate", "measured islands", "quantized products", "size")


def add_options(parser: argparse.ArgumentParser) -> None:
    sizes = [name for name, arch in VARIANTS.items() if arch.hiera]
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=["hiera_tiny"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))


def measure(options: argparse.Namespace, record: Record) -> None:
    rows = record.content.setdefault("rows", [])
    known = [(row["size"], row["precision"]) for row in rows]
    for size in options.sizes:
        missing = [precision for precision in options.precisions if (size, precision) not in known]
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = save_official(official_sam2(size), Path(folder) / f"sam2.1_{size}.pt") if missing else Path()
            for precision in missing:
                rows.append({"size": size, "precision": precision, **figures(checkpoint, precision, Path(folder))})
                print(rows[-1], file=sys.stderr)
                record.save()


def figures(checkpoint: Path, precision: str, folder: Path) -> dict[str, Any]:
    """What the gate measures, also where it would refuse the bundle."""
    config = ExportConfig(checkpoint=checkpoint, output=folder / precision, precision=precision)
    with patch("samhq_exporter.verification.gate.require_parity", lambda report, precision: None):
        exported = export_bundle(config)
    parity, policies = exported.parity, exported.manifest.precision_policy
    return {
        "relative": {name: errors.relative for name, errors in parity.tensors.items()},
        "mask_iou": dict(parity.mask_iou),
        "breaches": parity.breaches(EXPORT_TOLERANCES[precision]),
        "measured_islands": sum(len(policy["measured_islands"]) for policy in policies.values()),
        "quantized_layers": sum(len(policy["quantized_layers"]) for policy in policies.values()),
        "bytes": portable_bytes(exported),
    }


def portable_bytes(exported: ExportResult) -> int:
    """Of the graphs that TensorRT reads."""
    manifest = exported.manifest
    names = {name for entry in manifest.graphs.values() for name in (entry.file, f"{entry.file}.data")}
    return sum(entry.bytes for name, entry in manifest.files.items() if name in names)


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    rows = [_cells(row) for row in content["rows"]]
    return {"sam2_precision": format_table(_HEADER, rows)}


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    relative = row["relative"]
    features = max(value for name, value in relative.items() if name.endswith("embeddings") or "feats" in name)
    errors = (features, *(relative[name] for name in ("low_res_logits", "iou_predictions", "object_score_logits")))
    masks = [value for name, value in row["mask_iou"].items() if name != "selected"]
    return (
        f"{row['size']} {row['precision']}",
        *(f"{error:.1e}" for error in errors),
        f"{min(masks):.4f}",
        f"{row['mask_iou']['selected']:.4f}",
        "refused" if row["breaches"] else "passed",
        str(row["measured_islands"]),
        str(row["quantized_layers"]),
        f"{row['bytes'] / 1e6:.0f} MB",
    )
