"""Masks and sizes of every precision against float32 PyTorch, int8's time on the CPU; the table of docs/precision.md.

    python -m benchmarks precision --output benchmarks/results/precision.json --docs docs/precision.md
    python -m benchmarks precision --scenes 20 --clipping minmax percentile mse entropy
    python -m benchmarks precision --time vit_b --output benchmarks/results/precision_vit_b.json

The second compares the rules for int8 scales. The third times the image encoder, fp32 and int8 in turns, in one run, as
they ship for the CPU. It takes a checkpoint, or the name of a variant for seeded weights: time does not depend on them,
while the parity gate, which is about trained ones, may refuse them, so graphs are typed here without it.
bf16 is emulated (the same roundings in float32 arithmetic).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch

from benchmarks.pages import require_markers, write_between_markers
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.bundle.graph_files import save_with_cpu_form
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.demo.fidelity import mask_ious
from samhq_exporter.model import Sam
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.precision.calibration import calibration_set
from samhq_exporter.precision.policy import CLIPPING_RULES, DEFAULT_CLIPPING, PRECISIONS
from samhq_exporter.precision.typed import Wish, typed_graphs
from samhq_exporter.tracing.modules import graphs_of, model_sizes
from samhq_exporter.weights.checkpoint import Checkpoint, load_checkpoint
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.contract import IMAGE_ENCODER, ModelSizes, image_encoder_spec
from samhq_runtime.session import open_session
from samhq_runtime.tables import format_table


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    if options.docs:
        require_markers(options.docs, "precision")
    with tempfile.TemporaryDirectory() as folder:
        if options.time is None:
            result: Any = quality(Path(folder), scenes=options.scenes, rules=options.clipping)
            print(report(result))
        else:
            result = timing(_model(options.time), Path(folder), rounds=options.rounds)
            print(json.dumps(result, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")
    if options.docs:
        said = f"Demo model, {result[0]['objects']} objects per kind of prompt:"
        write_between_markers(options.docs, "precision", f"{said}\n\n{report(result)}")


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
        rows.append(row)
    return rows


def timing(checkpoint: Checkpoint, folder: Path, *, rounds: int) -> dict[str, Any]:
    """Encoder time of fp32 and int8, taken in turns."""
    files = [_typed_encoder(checkpoint, precision, folder) for precision in ("fp32", "int8")]
    single, quantized = _encoder_seconds(files, model_sizes(checkpoint.sam), rounds=rounds)
    return {
        "checkpoint": checkpoint.file_name,
        "variant": checkpoint.variant,
        "fp32_seconds": [round(t, 3) for t in single],
        "int8_seconds": [round(t, 3) for t in quantized],
        "speedup_of_medians": round(median(single) / median(quantized), 3),
    }


def _model(name: str) -> Checkpoint:
    """A checkpoint, or seeded weights under a variant's name."""
    if name not in VARIANTS:
        return load_checkpoint(Path(name))
    torch.manual_seed(0)
    return Checkpoint(Sam(VARIANTS[name]).eval().requires_grad_(False), name, "independent", "", "seeded")


def _typed_encoder(checkpoint: Checkpoint, precision: str, folder: Path) -> Path:
    """The encoder's file as ONNX Runtime opens it on the CPU."""
    wish = Wish(
        precision=precision,
        token_fusion=checkpoint.token_fusion,
        keep_fp32=(),
        calibration=calibration_set(()),
        clipping=DEFAULT_CLIPPING,
        report=None,
    )
    sam = checkpoint.sam
    graphs = typed_graphs(graphs_of(sam), model_sizes(sam), folder, wish=wish, step=lambda name: nullcontext())
    path = folder / f"{precision}.onnx"
    return save_with_cpu_form(graphs[IMAGE_ENCODER].model, path) or path


def _encoder_seconds(files: list[Path], sizes: ModelSizes, *, rounds: int) -> list[list[float]]:
    """Seconds of every run by file, one after another in each round; the first round is left out."""
    side, spec = sizes.image_size, image_encoder_spec(sizes)
    feeds = {"input_image": np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)}
    sessions = [open_session(file, spec) for file in files]
    seconds: list[list[float]] = [[] for _ in files]
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
        )
        for row in rows
    ]
    return format_table(("precision", "box mean", "box min", "point mean", "point min", "graphs"), lines)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=40, help="held-out scenes")
    parser.add_argument("--clipping", nargs="+", choices=CLIPPING_RULES, default=[DEFAULT_CLIPPING])
    parser.add_argument(
        "--time", metavar="CHECKPOINT", help="time this encoder instead; or a variant, for seeded weights"
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each encoder")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--docs", type=Path, metavar="MD", help="the page whose table is to be replaced")
    return parser.parse_args(argv)
