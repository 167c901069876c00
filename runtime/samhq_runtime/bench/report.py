"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..tables import format_table
from .cases import COLD_START, DECODER, ENCODER, END_TO_END, MEASURES, sizes_of

_STAGES = ("start_python", "import", "read_image", "load_bundle", "first_mask")
_UNITS = {ENCODER: "images/s", DECODER: "prompts/s", END_TO_END: "images/s"}


def report(results: Mapping[str, Any]) -> str:
    """One table per measure, with what it is, and the machine."""
    parts = [_machine(results["machine"])]
    for measure, meaning in MEASURES.items():
        rows = [row for row in results["rows"] if row["measure"] == measure]
        if rows:
            parts += [f"{measure}: {meaning}", _cold(rows) if measure == COLD_START else _timed(measure, rows)]
    return "\n\n".join(parts)


def _timed(measure: str, rows: list[Any]) -> str:
    header = ["case", "p50 ms", "p90 ms", "p99 ms", _UNITS[measure], "load s", "memory MB", "its peak MB"]
    on_gpu = any(row["gpu_bytes"] is not None for row in rows)
    if on_gpu:
        header.append("GPU MB")
    meters = sorted({name for row in rows for name in row["joules_per_item"]})
    header += [f"J/{_UNITS[measure].removesuffix('s/s')}, {name}" for name in meters]
    body = []
    for row in rows:
        line = [", ".join([row["bundle"], _provider(row), *_sizes(row)])]
        line += [f"{row[name] * 1000:.1f}" for name in ("p50", "p90", "p99")]
        line += [f"{row['items_per_second']:.2f}", f"{row['load_seconds']:.2f}"]
        line += [_megabytes(row["host_bytes"][name]) for name in ("after_load", "peak_work")]
        if on_gpu:
            line.append(_megabytes(row["gpu_bytes"]))
        body.append([*line, *(f"{row['joules_per_item'].get(name, float('nan')):.3f}" for name in meters)])
    return format_table(header, body)


def _provider(row: Mapping[str, Any]) -> str:
    """What was asked for, and what that stood for."""
    asked, runs = row["provider"], row.get("runs", row["provider"])
    return str(asked) if asked == runs else f"{asked} ({runs})"


def _sizes(row: Mapping[str, Any]) -> list[str]:
    return sizes_of(row["measure"], prompts=row["prompts"], images=row["images"])


def _cold(rows: list[Any]) -> str:
    header = ["case", "p50 s", "slowest s", *(name.replace("_", " ") for name in _STAGES), "peak MB"]
    body = [
        [
            f"{row['bundle']}, {row['provider']}",
            f"{row['p50']:.2f}",
            f"{max(row['seconds']):.2f}",
            *(f"{row['stages'][name]:.2f}" for name in _STAGES),
            _megabytes(row["host_bytes"]["peak"]),
        ]
        for row in rows
    ]
    return format_table(header, body)


def _megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f}"


def _machine(machine: Mapping[str, Any]) -> str:
    cpu = machine["cpu"]
    devices = [f"{cpu['cores_usable']} cores of {cpu['model']}"]
    devices += [f"{gpu['name']} (driver {gpu['driver']})" for gpu in machine.get("gpus", ())]
    jetson = machine.get("jetson", {})
    devices += [f"{jetson['board']}, power mode {jetson.get('power_mode', 'unknown')}"] if "board" in jetson else []
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    return f"{'; '.join(devices)}; Python {machine['python']}, {libraries}"
