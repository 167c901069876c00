"""Time and peak memory of `samhq-export`, of loading the bundle, and the import time of `samhq_runtime`.

    python -m benchmarks export_cost --variants demo vit_b vit_l vit_h --precisions fp32 fp16 \\
        --output benchmarks/results/export_cost.json --docs docs/benchmarks.md

Checkpoints are made on the spot: official layout and size, seeded random weights. The table goes between the
`export_cost` markers of the page that --docs names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pages import require_markers, write_between_markers
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.precision.policy import PRECISIONS
from samhq_runtime.bench.machine import describe_machine
from samhq_runtime.manifest import read_manifest
from samhq_runtime.tables import format_table

_IMPORTS = 7


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    if options.docs:
        require_markers(options.docs, "export_cost")
    cpu = describe_machine()["cpu"]
    results: dict[str, Any] = {
        "machine": {"cpu": cpu["model"], "cores": os.cpu_count(), "python": platform.python_version()},
        "import_seconds": import_seconds(),
        "exports": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for variant in options.variants:
            checkpoint = DEMO_CHECKPOINT if variant == "demo" else random_checkpoint(variant, Path(folder))
            for precision in options.precisions:
                row = export_cost(checkpoint, precision, Path(folder) / "bundle")
                row |= load_cost(Path(folder) / "bundle")
                results["exports"].append({"variant": variant, "precision": precision, **row})
                print(f"{variant} {precision}: {row}", file=sys.stderr)
                results["tools"] = dict(read_manifest(Path(folder) / "bundle").tools)
            if variant != "demo":
                checkpoint.unlink()
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=2) + "\n")
    if options.docs:
        write_between_markers(options.docs, "export_cost", report(results))
    print(report(results))


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
    times = []
    for _ in range(_IMPORTS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return median(times)


def random_checkpoint(variant: str, folder: Path) -> Path:
    """An official-format checkpoint of this variant with seeded random weights."""
    import torch

    from samhq_exporter.model import Sam
    from samhq_exporter.weights.checkpoint import to_official_keys

    torch.manual_seed(0)
    path = folder / f"sam_hq_{variant}.pth"
    torch.save(to_official_keys(Sam(VARIANTS[variant]).state_dict()), path)
    return path


def report(results: dict[str, Any]) -> str:
    rows = [
        (
            f"{r['variant']} {r['precision']}",
            f"{r['seconds']:.0f} s",
            f"{r['peak_rss_gb']:.1f} GB",
            f"{r['bundle_mb']:.0f} MB",
            f"{r['load_seconds']:.1f} s",
            f"{r['load_peak_rss_gb']:.1f} GB",
        )
        for r in results["exports"]
    ]
    table = format_table(("export", "time", "peak memory", "bundle", "new process to loaded", "peak memory"), rows)
    return f"{table}\n\n`import samhq_runtime` takes {results['import_seconds']:.2f} s more than Python itself."


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--variants", nargs="+", choices=[v for v in VARIANTS if v != "vit_tiny"], default=["demo", "vit_b"]
    )
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--docs", type=Path, metavar="MD", help="page with the markers")
    return parser.parse_args(argv)
