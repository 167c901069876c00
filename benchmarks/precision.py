"""Masks, sizes and CPU time of every precision against float32 PyTorch; the tables of docs/precision.md.

    python benchmarks/precision.py --output benchmarks/results/precision.json
    python benchmarks/precision.py --scenes 20 --clipping minmax percentile mse entropy
    python benchmarks/precision.py --time sam_hq_vit_b.pth --output benchmarks/results/precision_vit_b.json

The second compares the rules for int8 scales. The third times the image encoder, fp32 and int8 in turns, in one run.
bf16 is emulated (the same roundings in float32 arithmetic), so it has no time of its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from samhq_exporter.checkpoint import load_checkpoint
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.demo.fidelity import mask_ious
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.precision import CLIPPING_RULES, DEFAULT_CLIPPING, PRECISIONS
from samhq_runtime.bundle import NOT_ON_CPU, Bundle, load_bundle
from samhq_runtime.contract import IMAGE_ENCODER
from samhq_runtime.tables import format_table


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        if options.time is None:
            result: Any = quality(Path(folder), scenes=options.scenes, rules=options.clipping)
            print(report(result))
        else:
            result = timing(options.time, Path(folder), rounds=options.rounds)
            print(json.dumps(result, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


def quality(folder: Path, *, scenes: int, rules: list[str]) -> list[dict[str, Any]]:
    """One row per precision, int8 once per clipping rule; demo model, held-out scenes."""
    sam = load_checkpoint(DEMO_CHECKPOINT).sam
    cases = [(precision, rule) for precision in PRECISIONS for rule in (rules if precision == "int8" else [""])]
    rows = []
    for precision, rule in cases:
        bundle = _export(DEMO_CHECKPOINT, precision, folder / f"{precision}{rule}", rule or DEFAULT_CLIPPING)
        ious = mask_ious(bundle, sam, held_out_seeds(scenes))
        row: dict[str, Any] = {"precision": precision, "clipping": rule, "objects": len(ious["box"])}
        for kind, values in ious.items():
            row |= {f"{kind}_mean_iou": round(mean(values), 5), f"{kind}_min_iou": round(min(values), 5)}
        sizes = {name: entry.bytes for name, entry in bundle.manifest.files.items() if ".onnx" in name}
        row["bytes"] = sum(sizes.values())
        if precision not in NOT_ON_CPU:
            row["encoder_ms"] = round(1e3 * median(_encoder_seconds([bundle], rounds=7)[0]), 1)
        rows.append(row)
    return rows


def timing(checkpoint: Path, folder: Path, *, rounds: int) -> dict[str, Any]:
    """Encoder time of fp32 and int8, taken in turns."""
    bundles = [_export(checkpoint, precision, folder / precision, DEFAULT_CLIPPING) for precision in ("fp32", "int8")]
    single, quantized = _encoder_seconds(bundles, rounds=rounds)
    return {
        "checkpoint": checkpoint.name,
        "variant": bundles[0].manifest.variant,
        "fp32_seconds": [round(t, 3) for t in single],
        "int8_seconds": [round(t, 3) for t in quantized],
        "speedup_of_medians": round(median(single) / median(quantized), 3),
        "encoder_bytes": [b.manifest.files[f"{IMAGE_ENCODER}.onnx"].bytes for b in bundles],
    }


def _encoder_seconds(bundles: list[Bundle], *, rounds: int) -> list[list[float]]:
    """Seconds of every run by bundle, one after another in each round; the first round is left out."""
    side = bundles[0].manifest.sizes.image_size
    feeds = {"input_image": np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)}
    sessions = [bundle.open(IMAGE_ENCODER) for bundle in bundles]
    seconds: list[list[float]] = [[] for _ in bundles]
    for number in range(rounds + 1):
        for times, session in zip(seconds, sessions, strict=True):
            start = time.perf_counter()
            session(feeds)
            if number:
                times.append(time.perf_counter() - start)
    for session in sessions:
        session.close()
    return seconds


def _export(checkpoint: Path, precision: str, output: Path, clipping: str) -> Bundle:
    config = ExportConfig(checkpoint=checkpoint, output=output, precision=precision, clipping=clipping)
    return load_bundle(export_bundle(config).path)


def report(rows: list[dict[str, Any]]) -> str:
    lines = [
        (
            f"{row['precision']} {row['clipping']}".strip(),
            *(f"{row[f'{kind}_{figure}_iou']:.4f}" for kind in ("box", "point") for figure in ("mean", "min")),
            f"{row['bytes'] / 1e6:.2f} MB",
            f"{row['encoder_ms']} ms" if "encoder_ms" in row else "-",
        )
        for row in rows
    ]
    head = ("precision", "box mean", "box min", "point mean", "point min", "graphs", "encoder, CPU")
    return format_table(head, lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=40, help="held-out scenes")
    parser.add_argument("--clipping", nargs="+", choices=CLIPPING_RULES, default=[DEFAULT_CLIPPING])
    parser.add_argument("--time", type=Path, metavar="CHECKPOINT", help="time this checkpoint's encoder instead")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each encoder")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
