"""What TensorRT's builder makes of the graphs, read from its plans: kernels, fused attentions, traffic, estimated time.

    python -m benchmarks engine_plan --sizes demo vit_tiny vit_b vit_l --overwrite --docs

Needs TensorRT-RTX (extra `trt-builder-test`) and no GPU. Weights are seeded: plans do not depend on them. Times are
roofline estimates (`samhq_runtime/nvidia/roofline.py`), not measured. The demo's and vit_b's attention is also built in
other forms; where the builder refuses one, the table says why.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.measure.engine_plan_forms import FORMS, operator
from benchmarks.recording import Record
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.precision.policy import PRECISIONS
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import SamHqError
from samhq_runtime.nvidia.flavour import FLAVOURS, load_tensorrt
from samhq_runtime.nvidia.plan import ATTENTION, KINDS, SOFTMAX, Program
from samhq_runtime.nvidia.profiles import Range
from samhq_runtime.nvidia.roofline import PEAKS, Estimate, estimate
from samhq_runtime.tables import format_table
from tests.support.seeded_graphs import compiled

ONE_PROMPT = {name: (Range(n, n, n),) for name, n in (("prompts", 1), ("points", 2), ("combinations", 1))}
SHIPPED = next(iter(FORMS))
_OTHER_FORMS = {"demo": "fp16", "vit_b": "fp16"}  # precision in which they are built
_NAMES = {IMAGE_ENCODER: "encoder", MASK_DECODER: "decoder"}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="+", choices=VARIANTS, default=["demo", "vit_tiny", "vit_b"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))


def measure(options: argparse.Namespace, record: Record) -> None:
    record.require_setting({"builder": str(load_tensorrt(FLAVOURS["rtx"]))})
    rows = record.content.setdefault("rows", [])
    for case in _cases(options):
        if not any(case.items() <= row.items() for row in rows):
            rows.append({**case, **_built(**case)})
            record.save()


def _cases(options: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Those that follow one another share a trace."""
    for size in options.sizes:
        for precision in options.precisions:
            forms = FORMS if _OTHER_FORMS.get(size) == precision else [SHIPPED]
            for form in forms:
                yield {"size": size, "graph": IMAGE_ENCODER, "precision": precision, "sizes": "", "form": form}
        for precision in options.precisions:
            for sizes in ("one prompt", "default profile"):
                yield {"size": size, "graph": MASK_DECODER, "precision": precision, "sizes": sizes, "form": SHIPPED}


def _built(*, size: str, graph: str, precision: str, sizes: str, form: str) -> dict[str, Any]:
    ranges = ONE_PROMPT if sizes == "one prompt" else None
    islands = {IMAGE_ENCODER: ("LayerNormalization",)} if FORMS[form] is operator else {}  # it has no Softmax node
    with (
        tempfile.TemporaryDirectory() as folder,
        patch("samhq_exporter.precision.forms.pad_attention", FORMS[form]),
        patch.dict("samhq_exporter.precision.policy._ISLANDS", islands),
    ):
        try:
            return _figures(compiled(size, graph, precision, Path(folder), ranges))
        except SamHqError as e:
            return {"refused": " ".join(str(e).split())}


def _figures(program: Program) -> dict[str, Any]:
    kernels = program.kernels
    estimates = {name: estimate(program, peak) for name, peak in PEAKS.items()}
    return {
        "kernels": len(kernels),
        "kinds": {kind: program.count(kind) for kind in KINDS},
        "open": sum(kernel.open for kernel in kernels),
        "flop": sum(kernel.flop for kernel in kernels),
        "bytes": sum(kernel.nbytes for kernel in kernels),
        "largest": max(tensor.nbytes for kernel in kernels for tensor in kernel.writes.values()),
        "seconds": {name: asdict(e) | {"all": e.seconds} for name, e in estimates.items() if isinstance(e, Estimate)},
    }


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    """What ships, and the other forms of attention beside it."""
    rows = content["rows"]
    shipped = [row for row in rows if row["form"] == SHIPPED]
    sizes = {row["size"] for row in rows if row["form"] != SHIPPED}
    others = [
        row
        for row in rows
        if row["size"] in sizes and row["graph"] == IMAGE_ENCODER and _OTHER_FORMS[row["size"]] == row["precision"]
    ]
    head = f"{content['setting']['builder']}; milliseconds are roofline estimates, not measured."
    gpus = [peak.product for peak in PEAKS.values()]
    header = ("graph", "kernels", "attentions fused", "softmax alone", "largest tensor, MB", "GB", "TFLOP", *gpus)
    return {
        "engine_plan": f"{head}\n\n{format_table(header, [(_graph(row), *_cells(row)) for row in shipped])}",
        "engine_plan forms": "\n\n".join(
            [
                format_table(header, [(_form(row), *_cells(row)) for row in others]),
                *(f"{_form(row)}: {row['refused']}" for row in others if "refused" in row),
            ]
        ),
    }


def _graph(row: Mapping[str, Any]) -> str:
    name = f"{row['size']} {_NAMES[row['graph']]} {row['precision']}"
    return f"{name}, {row['sizes']}" if row["sizes"] else name


def _form(row: Mapping[str, Any]) -> str:
    return f"{row['size']} {row['precision']}, {row['form']}"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "refused" in row:
        return ("refused", *["-"] * (5 + len(PEAKS)))
    counts = (row["kernels"], row["kinds"][ATTENTION], row["kinds"][SOFTMAX])
    if row["open"]:
        return (*map(str, counts), *["-"] * (3 + len(PEAKS)))
    figures = (f"{row['largest'] / 1e6:.1f}", f"{row['bytes'] / 1e9:.2f}", f"{row['flop'] / 1e12:.3f}")
    times = (f"{1e3 * row['seconds'][name]['all']:.2f}" if name in row["seconds"] else "-" for name in PEAKS)
    return (*map(str, counts), *figures, *times)
