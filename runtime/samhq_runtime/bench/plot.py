"""A picture of the results, with matplotlib (the `plot` extra)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..installing import install_command, unavailable
from .cases import COLD_START, MEASURES


def require_matplotlib() -> None:
    """Raise BackendUnavailable before anything is measured, rather than after."""
    try:
        import matplotlib  # noqa: F401
    except Exception as e:  # a broken native package raises whatever its loader does
        raise unavailable("matplotlib", e, install_command("plot")) from e


def plot_results(results: Mapping[str, Any], path: Path) -> None:
    """One panel per measure: time per image or prompt against the number at once, p50 with p90 as a bar above it."""
    require_matplotlib()
    from matplotlib.figure import Figure

    measures = [m for m in MEASURES if any(row["measure"] == m for row in results["rows"])]
    figure = Figure(figsize=(4.5 * len(measures), 4), layout="constrained")
    for place, measure in enumerate(measures, start=1):
        axes = figure.add_subplot(1, len(measures), place)
        rows = [row for row in results["rows"] if row["measure"] == measure]
        if measure == COLD_START:
            _bars(axes, rows)
        else:
            _lines(axes, rows)
        axes.set_title(measure)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small")
    figure.suptitle(results["machine"]["cpu"]["model"], fontsize="small")
    write_whole(path, figure.savefig)


def _bars(axes: Any, rows: list[Any]) -> None:
    """Where the time of a cold start goes."""
    names = [f"{row['bundle']}\n{row['provider']}" for row in rows]
    bottom = [0.0] * len(rows)
    for stage in rows[0]["stages"]:
        heights = [row["stages"][stage] for row in rows]
        axes.bar(names, heights, bottom=bottom, label=stage.replace("_", " "))
        bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
    axes.set_ylabel("seconds")


def _lines(axes: Any, rows: list[Any]) -> None:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        images = f", {row['images']} images" if row["measure"] == "decoder" else ""
        groups.setdefault(f"{row['bundle']}, {row['provider']}{images}", []).append(row)
    for name, members in groups.items():
        sizes = [row["images"] if row["measure"] == "encoder" else row["prompts"] for row in members]
        p50, p90 = ([row[p] / row["items"] * 1000 for row in members] for p in ("p50", "p90"))
        above = [max(0.0, high - middle) for high, middle in zip(p90, p50, strict=True)]
        axes.errorbar(sizes, p50, yerr=[[0.0] * len(p50), above], marker="o", capsize=3, label=name)
    axes.set_xlabel("images at once" if rows[0]["measure"] == "encoder" else "prompts at once")
    axes.set_ylabel("ms per prompt" if rows[0]["measure"] == "decoder" else "ms per image")
