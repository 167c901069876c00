"""What ONNX Runtime's memory options cost and save: why `OrtSession` sets the one it sets.

    python -m benchmarks session_options --bundle vit_b_fp32 --output benchmarks/results/session_options.json \
        --docs docs/benchmarks.md

Every option runs in a process of its own, on the graphs as `Predictor` uses them: one image, and eight box prompts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.pages import require_markers, write_between_markers
from samhq_runtime.bench.machine import describe_machine
from samhq_runtime.bench.memory import host_memory, reset_peak
from samhq_runtime.bundle import load_bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.files import write_whole
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


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    if options.docs:
        require_markers(options.docs, "session options")
    rows = []
    for graph in (IMAGE_ENCODER, MASK_DECODER):
        for name in _OPTIONS:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(_measure, (options.bundle, graph, name, options.threads, options.repeats)))
    if options.output:
        text = json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n"
        write_whole(options.output, lambda partial: partial.write_text(text, encoding="utf-8"))
    print(_table(rows))
    if options.docs:
        write_between_markers(options.docs, "session options", _table(rows))


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
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        session.run(None, feeds, run)
        seconds.append(time.perf_counter() - start)
    memory = host_memory()
    rises = {"peak_rise": (memory.peak or 0) - loaded, "kept": (memory.resident or 0) - loaded}
    return {"graph": graph, "options": name, "seconds": median(seconds[1:]), **rises}


def _table(rows: list[dict[str, Any]]) -> str:
    body = [
        (
            f"{row['graph']}: {row['options']}",
            f"{row['seconds'] * 1000:.0f} ms",
            f"{row['peak_rise'] / 1e6:.0f} MB",
            f"{row['kept'] / 1e6:.0f} MB",
        )
        for row in rows
    ]
    return format_table(("", "one call", "peak over loaded", "kept afterwards"), body)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--docs", type=Path, help="Markdown file with a table between markers to replace")
    return parser.parse_args(argv)
