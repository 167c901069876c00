"""Time of the image encoder in fp32 and int8 on the CPU, in turns.

    python -m benchmarks int8_encoder vit_b --rounds 7 --docs

CHECKPOINT is a file, or the name of a variant for seeded weights: time does not depend on them, while the parity gate,
which is about trained ones, may refuse them, so graphs are typed here without it, as they ship for the CPU.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.recording import Record
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.bundle.graph_files import save_forms
from samhq_exporter.precision.calibration import calibration_set
from samhq_exporter.precision.options import PrecisionOptions
from samhq_exporter.precision.policy import DEFAULT_CLIPPING
from samhq_exporter.precision.typed import typed_graphs
from samhq_exporter.tracing.modules import graphs_of, model_sizes
from samhq_exporter.weights.checkpoint import Checkpoint, load_checkpoint
from samhq_runtime.bench.measuring import repeat
from samhq_runtime.contract import IMAGE_ENCODER, ModelSizes, image_encoder_spec
from samhq_runtime.session import open_session
from tests.support.models import seeded_checkpoint


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each encoder")


def measure(options: argparse.Namespace, record: Record) -> None:
    """Both at once: they take turns."""
    record.require_setting({"checkpoint": options.checkpoint, "rounds": options.rounds})
    if "fp32_seconds" in record.content:
        return
    with tempfile.TemporaryDirectory() as folder:
        given = options.checkpoint
        checkpoint = load_checkpoint(seeded_checkpoint(given, Path(folder)) if given in VARIANTS else Path(given))
        files = [_typed_encoder(checkpoint, precision, Path(folder)) for precision in ("fp32", "int8")]
        single, quantized = _seconds(files, model_sizes(checkpoint.sam), rounds=options.rounds)
    record.content |= {
        "variant": checkpoint.variant,
        "fp32_seconds": [round(t, 3) for t in single],
        "int8_seconds": [round(t, 3) for t in quantized],
    }
    record.save()


def _typed_encoder(checkpoint: Checkpoint, precision: str, folder: Path) -> Path:
    """The encoder's file as ONNX Runtime opens it on the CPU."""
    options = PrecisionOptions(
        precision=precision,
        token_fusion=checkpoint.token_fusion,
        keep_fp32=(),
        calibration=calibration_set(()),
        clipping=DEFAULT_CLIPPING,
        report=None,
    )
    sam = checkpoint.sam
    graphs = typed_graphs(graphs_of(sam), model_sizes(sam), folder, options=options, step=lambda name: nullcontext())
    encoder = graphs[IMAGE_ENCODER]
    assert encoder.cpu is not None
    return save_forms(encoder.model, encoder.cpu, folder / f"{precision}.onnx")


def _seconds(files: list[Path], sizes: ModelSizes, *, rounds: int) -> list[list[float]]:
    """Seconds of every run by file, one after another in each round; the first round is left out."""
    side, spec = sizes.image_size, image_encoder_spec(sizes)
    feeds = {"input_image": np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)}
    sessions = [open_session(file, spec) for file in files]
    turns = [[repeat(partial(session, feeds), 1)[0] for session in sessions] for _ in range(rounds + 1)]
    for session in sessions:
        session.close()
    return [list(seconds) for seconds in zip(*turns[1:], strict=True)]


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    single, quantized = (median(content[f"{name}_seconds"]) for name in ("fp32", "int8"))
    return {
        "int8_encoder": f"Image encoder of {content['variant']}, medians of {len(content['fp32_seconds'])} turns: "
        f"fp32 {single:.2f} s, int8 {quantized:.2f} s, {single / quantized:.1f} times as fast."
    }
