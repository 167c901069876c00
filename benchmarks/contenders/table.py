"""The results of `python -m benchmarks peers` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.pages import format_seconds
from samhq_exporter.architecture import VARIANTS
from samhq_runtime.tables import format_table

from .floor import Work, decoder_work, encoder_work
from .scene import PICTURE_HW

_OWN_WEIGHTS = ("transformers", "optimum-onnx (SAM, no HQ)")  # random ones, so results cannot agree
_TITLES = {
    "encoder": "image encoder, one image",
    "decoder:1": "decoder and mask at 1200 x 1800, 1 prompt",
    "decoder:32": "decoder and masks at 1200 x 1800, 32 prompts, per prompt",
    "photo:64": "photograph of 4000 x 3000 and 64 boxes, image to masks",
}


def report(results: Mapping[str, Any]) -> str:
    """All sections that were measured, each with its opponents and the distance to the floor."""
    sections, variant = results["sections"], results["setting"]["variant"]
    threads, parts = results["setting"]["threads"], []
    if "floor" in sections:
        rates = sections["floor"]
        parts.append(
            f"{threads} threads. This machine's floor: {rates['flops_per_second'] / 1e9:.0f} GFLOP/s in float32 "
            "matrix products, "
            f"{rates['bytes_per_second'] / 1e9:.1f} GB/s copying."
        )
    for job, title in _TITLES.items():
        if job in sections:
            parts += [f"**{title}**", _section(job, sections[job], sections.get("floor"), variant)]
    if "cold start" in sections:
        title = "**cold start: new process to first mask, picture file of 1200 x 1800**"
        parts += [title, _cold(sections["cold start"])]
    return "\n\n".join(parts)


def _section(job: str, section: dict[str, Any], rates: dict[str, float] | None, variant: str) -> str:
    count = int(job.partition(":")[2] or 1)
    per = count if job == "decoder:32" else 1
    work = _work(job, count, variant)
    floor = work.seconds(rates) if work and rates else None
    header = ["", "against", "it", "the other", "times faster", "same result"]
    if floor:
        header += ["over floor", "other's"]
    if not job.startswith("decoder"):  # our process has also encoded the picture there, most of theirs have not
        header += ["peak", "other's", "times smaller"]
    rows = [_row(row, per, floor, job) for row in section["opponents"]]
    table = format_table(header, [row + [""] * (len(header) - len(row)) for row in rows])
    if not work or not floor:
        return table
    amount = f"{work.flops / per / 1e9:.1f} GFLOP and {work.bytes / per / 1e6:.0f} MB"
    return f"{table}\n\nFloor: {amount}, {format_seconds(floor / per)}."


def _row(row: dict[str, Any], per: int, floor: float | None, job: str) -> list[str]:
    champion = row["champion"]
    if "failed" in row:
        return [champion, row["name"], "", "", "could not run"]
    ours, theirs, faster = row["ours"], row["theirs"], row["times_faster"]
    seconds = ours["median_seconds"], theirs["median_seconds"]
    cells = [champion, row["name"], *(format_seconds(s / per) for s in seconds)]
    cells += [
        f"{faster['value']:.2f} ({faster['low']:.2f}-{faster['high']:.2f})",
        _same(row["agreement"], own_weights=row["name"] in _OWN_WEIGHTS),
    ]
    if floor:
        cells += [f"{s / floor:.2f}" for s in seconds]
    if not job.startswith("decoder"):
        cells += [_gigabytes(ours), _gigabytes(theirs), f"{theirs['peak_mb'] / ours['peak_mb']:.1f}"]
    return cells


def _gigabytes(facts: dict[str, Any]) -> str:
    return f"{facts['peak_mb'] / 1000:.2f} GB ({facts['peak_less_imports_mb'] / 1000:.2f})"


def _same(agreement: dict[str, float], *, own_weights: bool) -> str:
    if own_weights:
        return "other weights"
    (kind, value), *_ = agreement.items()
    return f"IoU {value:.4f}" if kind == "least_mask_iou" else f"{value:.0e} of range"


def _work(job: str, count: int, variant: str) -> Work | None:
    if job == "encoder":
        return encoder_work(VARIANTS[variant])
    return decoder_work(VARIANTS[variant], count, mask_hw=PICTURE_HW) if job.startswith("decoder") else None


def _cold(rows: list[dict[str, Any]]) -> str:
    body = [
        (
            row["bundle"],
            f"{row['p50']:.2f} s",
            *(f"{row['stages'][name]:.2f} s" for name in ("start_python", "import", "load_bundle", "first_mask")),
            f"{row['host_bytes']['peak'] / 1e9:.2f} GB",
        )
        for row in rows
    ]
    return format_table(("bundle", "in all", "Python", "imports", "load", "first mask", "peak memory"), body)
