"""The benchmarks: what each tells, what it takes, and where its tables stand.

NAME is a module of `benchmarks.measure`, its figures are in `benchmarks/results/NAME.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from samhq_runtime.tables import format_table

from . import readme
from .pages import ROOT
from .recording import Record, caption, read_record

RESULTS = ROOT / "benchmarks" / "results"


class Measurement(Protocol):
    """What a module of `benchmarks.measure` offers; and `breaches`, where figures can be wrong."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None: ...

    def measure(self, options: argparse.Namespace, record: Record) -> None:
        """Put the figures that the record lacks into it, and save it after each that took long."""
        ...

    def tables(self, content: Mapping[str, Any]) -> dict[str, str]:
        """Markdown by marker, of a record's content; no table depends on anything else."""
        ...


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """`tables` are pages by marker; `libraries` are those that count, beside those that count everywhere."""

    name: str
    question: str
    cost: str
    tables: Mapping[str, str] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()

    @property
    def record(self) -> Path:
        return RESULTS / f"{self.name}.json"

    def load(self) -> Measurement:
        return cast(Measurement, import_module(f"benchmarks.measure.{self.name}"))

    def breaches(self, content: Mapping[str, Any]) -> list[str]:
        """What makes a run fail: figures beyond a tolerance, wrong answers."""
        return getattr(self.load(), "breaches", lambda content: [])(content)


_TORCH = ("torch", "onnx")
_OFFICIAL = ("transformers", "segment-anything", "segment-anything-hq")

BENCHMARKS = {
    row.name: row
    for row in (
        Benchmark(
            name="ablation",
            question="which token fusion is best, trained at the demo model's scale?",
            cost="hours",
            tables={"ablation": "docs/ablation.md", "ablation curves": "docs/ablation.md"},
            libraries=_TORCH,
        ),
        Benchmark(
            name="checkpoint_parity",
            question="how far are bundles from the official packages, per variant, weights and fusion?",
            cost="20 min; vit_h 20 GB",
            tables={"checkpoint_parity": "docs/checkpoints.md"},
            libraries=(*_TORCH, *_OFFICIAL),
        ),
        Benchmark(
            name="demo_training",
            question="how good is the demo model, and another seed's?",
            cost="an hour a seed",
            tables={"demo": "docs/demo.md", "demo gains": "docs/demo.md", "demo seeds": "docs/demo.md"},
            libraries=_TORCH,
        ),
        Benchmark(
            name="engine_plan",
            question="which kernels does TensorRT make of the graphs, and what would they take on four GPUs?",
            cost="3 min, no GPU",
            tables={"engine_plan": "docs/tensorrt.md", "engine_plan forms": "docs/tensorrt.md"},
            libraries=(*_TORCH, "tensorrt-rtx-cu13"),
        ),
        Benchmark(
            name="eval_demo",
            question="what do fp16 and int8 cost the demo model's masks on held-out scenes?",
            cost="some minutes",
            tables={"eval_demo": "docs/evaluation.md"},
            libraries=_TORCH,
        ),
        Benchmark(
            name="everything",
            question="are the masks of everything mode the official generator's, and how much faster?",
            cost="5 min; 8 GB",
            tables={"everything": "docs/everything.md", "everything grids": "docs/everything.md"},
            libraries=("torch", "segment-anything-hq", "opencv-python-headless"),
        ),
        Benchmark(
            name="export_cost",
            question="what do an export, and loading what it wrote, take?",
            cost="15 min; vit_h 11 GB",
            tables={"export_cost": "docs/benchmarks.md"},
            libraries=_TORCH,
        ),
        Benchmark(
            name="fleet",
            question="how fast is a folder on a Ray cluster, and is anything lost with a worker?",
            cost="2 min",
            tables={"fleet": "docs/serving.md"},
            libraries=("ray",),
        ),
        Benchmark(
            name="gpu",
            question="how fast are engines, ONNX Runtime and PyTorch on an NVIDIA GPU?",
            cost="an NVIDIA GPU",
            libraries=_TORCH,
        ),
        Benchmark(
            name="hostile",
            question="what do damaged inputs and kills at random moments do?",
            cost="minutes, or as long as you like",
            tables={"hostile": "docs/security.md"},
            libraries=("torch", "grpcio", "protobuf"),
        ),
        Benchmark(
            name="input_size",
            question="what does another `--image-size` do to masks?",
            cost="some minutes",
            tables={"input_size": "docs/checkpoints.md"},
            libraries=_TORCH,
        ),
        Benchmark(
            name="int8_encoder",
            question="how much faster is an int8 encoder on the CPU?",
            cost="5 min",
            tables={"int8_encoder": "docs/precision.md"},
            libraries=_TORCH,
        ),
        Benchmark(
            name="peers",
            question="how does it compare with the official package and other exporters?",
            cost="an hour; 8 GB",
            tables={"peers": "docs/benchmarks.md"},
            libraries=("torch", "segment-anything-hq", "transformers", "optimum-onnx"),
        ),
        Benchmark(
            name="precision",
            question="how close are masks of each precision to float32 PyTorch, and how small are the graphs?",
            cost="some minutes",
            tables={"precision": "docs/precision.md"},
            libraries=_TORCH,
        ),
        Benchmark(
            name="sam2_precision",
            question="how close are SAM 2.1's graphs of each precision to float32 PyTorch?",
            cost="10 min a size",
            tables={"sam2_precision": "docs/precision.md"},
            libraries=(*_TORCH, "sam2"),
        ),
        Benchmark(
            name="scaling",
            question="what does one more prompt, or one more image, cost?",
            cost="10 min",
            tables={"scaling": "docs/benchmarks.md"},
        ),
        Benchmark(
            name="serve_load",
            question="what does `samhq serve` cost over the bare runtime?",
            cost="2 min, two cores",
            tables={"serve_load": "docs/serving.md"},
            libraries=("grpcio", "protobuf"),
        ),
        Benchmark(
            name="session_options",
            question="what do ONNX Runtime's memory options cost and save?",
            cost="3 min",
            tables={"session_options": "docs/benchmarks.md"},
        ),
        Benchmark(
            name="tuned",
            question="what does `samhq tune` try and choose, and does `auto` run it?",
            cost="20 min",
            tables={"tuned": "docs/tuning.md"},
        ),
    )
}


def list_table(*, linked: bool = True) -> str:
    """All benchmarks; with links between the pages of docs/ or as plain paths."""
    rows = []
    for row in BENCHMARKS.values():
        pages = dict.fromkeys(row.tables.values())
        names = [f"[{Path(page).stem}]({Path(page).name})" if linked else page for page in pages]
        rows.append((f"`{row.name}`" if linked else row.name, row.question, row.cost, ", ".join(names) or "-"))
    return format_table(("benchmark", "question", "takes", "tables"), rows)


def readme_table() -> str:
    peers, int8 = (read_record(BENCHMARKS[name].record) for name in ("peers", "int8_encoder"))
    return f"{caption(peers)}\n\n{readme.table(peers, int8)}"


# Tables that are not of one benchmark: page by marker, and what writes it.
OVERVIEWS: dict[str, tuple[str, Callable[[], str]]] = {
    "benchmarks": ("docs/benchmarks.md", list_table),
    "measured": ("README.md", readme_table),
}
