"""Time and peak memory of `samhq-export`, of loading the bundle, and the import time of `samhq_runtime`.

    python -m benchmarks export_cost --variants demo vit_b vit_l vit_h --precisions fp32 fp16 --docs

Checkpoints are made on the spot: official layout and size, seeded random weights.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.recording import Record
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.precision.policy import PRECISIONS
from samhq_runtime.bench.measuring import repeat
from samhq_runtime.tables import format_table
from tests.support.models import seeded_checkpoint

_IMPORTS = 7


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["demo", "vit_b"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))


def measure(options: argparse.Namespace, record: Record) -> None:
    if "import_seconds" not in record.content:
        record.content["import_seconds"] = import_seconds()
    rows = record.content.setdefault("exports", [])
    known = [(row["variant"], row["precision"]) for row in rows]
    for variant in options.variants:
        missing = [precision for precision in options.precisions if (variant, precision) not in known]
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = DEMO_CHECKPOINT
            if missing and variant != "demo":
                checkpoint = seeded_checkpoint(variant, Path(folder))
            for precision in missing:
                row = export_cost(checkpoint, precision, Path(folder) / "bundle")
                row |= load_cost(Path(folder) / "bundle")
                rows.append({"variant": variant, "precision": precision, **row})
                print(f"{variant} {precision}: {row}", file=sys.stderr)
                record.save()


def export_cost(checkpoint: Path, precision: str, output: Path) -> dict[str, float]:
    """Wall time, peak resident memory and bundle size of one export in a process of its own."""
    command = ["-m", "samhq_exporter", "--overwrite", "--precision", precision]
    seconds, peak = _cost([*command, "--checkpoint", str(checkpoint), "--output", str(output)])
    size = sum(file.stat().st_size for file in output.iterdir())
    return {"seconds": round(seconds, 1), "peak_rss_gb": round(peak, 2), "bundle_mb": round(size / 1e6, 1)}


def load_cost(bundle: Path) -> dict[str, float]:
    """The same of a process that opens the bundle, hashes and both ONNX Runtime sessions included."""
    seconds, peak = _cost(["-c", "import sys, samhq_runtime; samhq_runtime.Predictor(sys.argv[1])", str(bundle)])
    return {"load_seconds": round(seconds, 1), "load_peak_rss_gb": round(peak, 2)}


def _cost(arguments: list[str]) -> tuple[float, float]:
    """Seconds and GB of a Python process; SystemExit if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"python {' '.join(arguments)} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1e6


def import_seconds() -> float:
    """Median time of `import samhq_runtime` in fresh processes, less the start of Python itself."""
    return round(_startup("import samhq_runtime") - _startup("pass"), 3)


def _startup(code: str) -> float:
    return median(repeat(lambda: subprocess.run([sys.executable, "-c", code], check=True), _IMPORTS))


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    rows = [
        (
            f"{r['variant']} {r['precision']}",
            f"{r['seconds']:.0f} s",
            f"{r['peak_rss_gb']:.1f} GB",
            f"{r['bundle_mb']:.0f} MB",
            f"{r['load_seconds']:.1f} s",
            f"{r['load_peak_rss_gb']:.1f} GB",
        )
        for r in content["exports"]
    ]
    table = format_table(("export", "time", "peak memory", "bundle", "new process to loaded", "peak memory"), rows)
    text = f"{table}\n\n`import samhq_runtime` takes {content['import_seconds']:.2f} s more than Python itself."
    return {"export_cost": text}
