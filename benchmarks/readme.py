"""The table of README.md: a few rows of the records of `peers` and `int8_encoder`."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

from samhq_runtime.tables import format_table

from .pages import format_seconds


class Pair(NamedTuple):
    """A row of the record of `peers`, and how the README calls the two."""

    ours: str
    against: str
    section: str
    champion: str
    opponent: str


_PAIRS = (
    Pair("image encoder", "the official module exported as it is", "encoder", "ours", "official ONNX"),
    Pair("image encoder", "official PyTorch, eager", "encoder", "ours", "official PyTorch"),
    Pair("image encoder", "official PyTorch, compiled", "encoder", "ours", "official torch.compile"),
    Pair("the same under OpenVINO", "official PyTorch, eager", "encoder", "ours OpenVINO", "official PyTorch"),
    Pair("OpenVINO, bf16", "the official module exported, fp32", "encoder", "ours OpenVINO bf16", "official ONNX"),
    Pair("decoder and mask, 1 box", "the official HQ decoder in ONNX", "decoder:1", "ours", "official ONNX"),
    Pair("the same, 32 boxes, per box", "the official HQ decoder in ONNX", "decoder:32", "ours", "official ONNX"),
    Pair("photo of 4000 x 3000, 64 boxes", "official PyTorch, eager", "photo:64", "ours", "official PyTorch"),
)


def table(peers: Mapping[str, Any], int8: Mapping[str, Any]) -> str:
    rows = [row for pair in _PAIRS if (row := _row(peers["sections"], pair))]
    single, quantized = (median(int8[f"{name}_seconds"]) for name in ("fp32", "int8"))
    times = format_seconds(quantized), format_seconds(single), f"{single / quantized:.1f}"
    rows.append(("image encoder, int8, a run of its own", times[0], "ours, fp32", *times[1:]))
    for start in peers["sections"]["cold start"]:
        cost = f"{format_seconds(start['p50'])}, {start['host_bytes']['peak'] / 1e9:.1f} GB"
        rows.append((f"new process to first mask, {start['bundle']}", cost, "", "", ""))
    return format_table(("", "ours", "against", "theirs", "times faster"), rows)


def _row(sections: Mapping[str, Any], pair: Pair) -> tuple[str, ...]:
    """Empty if that pair was not measured."""
    found = {(row["champion"], row["name"]): row for row in sections[pair.section]["opponents"]}
    row = found.get((pair.champion, pair.opponent), {"failed": True})
    if "failed" in row:
        return ()
    per = 32 if pair.section == "decoder:32" else 1
    ours, theirs = (_cell(row[side], per, memory=not pair.section.startswith("decoder")) for side in ("ours", "theirs"))
    return pair.ours, ours, pair.against, theirs, f"{row['times_faster']['value']:.1f}"


def _cell(figures: Mapping[str, Any], per: int, *, memory: bool) -> str:
    time = format_seconds(figures["median_seconds"] / per)
    return f"{time}, {figures['peak_mb'] / 1000:.1f} GB" if memory else time
