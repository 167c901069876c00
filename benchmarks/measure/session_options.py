"""What ONNX Runtime's memory options cost and save: why `OrtSession` sets the one it sets.

    python -m benchmarks session_options --bundle vit_b_fp32 --docs

Every option runs in a process of its own, on the graphs as `Predictor` uses them: one image, and eight box prompts.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.recording import Record, described
from samhq_runtime.bench.measuring import repeat
from samhq_runtime.bench.memory import host_memory, reset_peak
from samhq_runtime.bundle import load_bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.predictor import PROMPTS_PER_CALL
from samhq_runtime.tables import format_table

_ARENA_SHRINKAGE = ("memory.enable_memory_arena_shrinkage", "cpu:0")
_SIZES = {"images": 1, "prompts": PROMPTS_PER_CALL, "points": 2, "mask_inputs": 1, "combinations": 1}


def _no_pattern(options: ort.SessionOptions, run: ort.RunOptions) -> None:
    options.enable_mem_pattern = False


def _no_pattern_shrink(options: ort.SessionOptions, run: ort.RunOptions) -> None:
    options.enable_mem_pattern = False
    run.add_run_config_entry(*_ARENA_SHRINKAGE)


def _no_arena(options: ort.SessionOptions, run: ort.RunOptions) -> None:
    options.enable_cpu_mem_arena = False


def _no_spinning(options: ort.SessionOptions, run: ort.RunOptions) -> None:
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")


_OPTIONS: dict[str, Callable[[ort.SessionOptions, ort.RunOptions], None]] = {
    "ONNX Runtime's defaults": lambda options, run: None,
    "no memory pattern (ours)": _no_pattern,
    "no pattern, arena shrunk after each run": _no_pattern_shrink,
    "no arena": _no_arena,
    "no pattern, threads do not spin": _no_spinning,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)


def measure(options: argparse.Namespace, record: Record) -> None:
    record.require_setting({"bundle": described(options.bundle), "threads": options.threads})
    rows = record.content.setdefault("rows", [])
    known = [(row["graph"], row["options"]) for row in rows]
    for graph in (IMAGE_ENCODER, MASK_DECODER):
        for name in (name for name in _OPTIONS if (graph, name) not in known):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(_measure, (options.bundle, graph, name, options.threads, options.repeats)))
            record.save()


def _measure(bundle_path: Path, graph: str, name: str, threads: int, repeats: int) -> dict[str, Any]:
    bundle = load_bundle(bundle_path)
    entry = bundle.manifest.graphs[graph]
    options, run = ort.SessionOptions(), ort.RunOptions()
    options.intra_op_num_threads = threads
    _OPTIONS[name](options, run)
    session = ort.InferenceSession(bundle.path / (entry.cpu_file or entry.file), options, ["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {
        spec.name: rng.random([d if isinstance(d, int) else _SIZES[d] for d in spec.shape]).astype(spec.dtype)
        for spec in entry.spec.inputs
        if not spec.optional
    }
    loaded = host_memory().resident or 0
    reset_peak()
    seconds = repeat(lambda: session.run(None, feeds, run), repeats + 1)
    memory = host_memory()
    rises = {"peak_rise": (memory.peak or 0) - loaded, "kept": (memory.resident or 0) - loaded}
    return {"graph": graph, "options": name, "seconds": median(seconds[1:]), **rises}


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    body = [
        (
            f"{row['graph']}: {row['options']}",
            f"{row['seconds'] * 1000:.0f} ms",
            f"{row['peak_rise'] / 1e6:.0f} MB",
            f"{row['kept'] / 1e6:.0f} MB",
        )
        for row in content["rows"]
    ]
    return {"session_options": format_table(("", "one call", "peak over loaded", "kept afterwards"), body)}
