"""Means and paired differences over training seeds, with 95 % Student t intervals, and the tables made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np

from samhq_runtime.tables import format_table

CONFIDENCE = 0.95
METRICS = {"mean_iou": "mIoU", "mean_boundary_iou": "mBIoU"}
# Pairs of the published order, then of the product from the start of the sum.
PAIRS = (
    ("hadamard", "independent"),
    ("hadamard", "sum"),
    ("sum", "independent"),
    ("hadamard, start of sum", "sum"),
)
_INTEGRATION_STEPS = 400_000

Run = Mapping[str, Any]
Scores = Mapping[str, Mapping[str, Mapping[str, float]]]  # by prompt, output and metric


def t_quantile(degrees: int) -> float:
    """The half-width of the `CONFIDENCE` interval of a t distribution, in standard errors; `degrees` at least 2."""
    x = np.linspace(0, 100, _INTEGRATION_STEPS + 1)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    density = math.exp(log_scale) * (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    within = np.cumsum(density[1:] + density[:-1]) * (x[1] - x[0])  # both sides of the trapezoids
    return float(x[1:][np.searchsorted(within, CONFIDENCE)])


def interval(values: Sequence[float]) -> dict[str, float]:
    """`mean`, `low` and `high` of the mean of at least 3 independent values."""
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return {"mean": mean(values), "low": mean(values) - half, "high": mean(values) + half}


def means(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One row per variant, source (torch or a bundle), prompt, output and metric."""
    rows = []
    for variant, of_it in _by_variant(runs).items():
        for column in _columns(of_it[0]["scores"]):
            rows.append({"variant": variant, **_named(column), **interval(_values(of_it, column))})
    return rows


def differences(runs: Sequence[Run], plain: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """`of` minus `from` in the same seed: between variants, and each variant against SAM's masks without HQ.

    `plain` holds the scores of the frozen SAM by source.
    """
    variants = _by_variant(runs)
    rows = []
    for column in dict.fromkeys(column for run in runs for column in _columns(run["scores"])):
        source, prompt, output, metric = column
        if output == "sam_only":
            continue
        measured = {name: of_it for name, of_it in variants.items() if source in of_it[0]["scores"]}
        values = {name: np.array(_values(of_it, column)) for name, of_it in measured.items()}
        pairs = [(of, base, values[of] - values[base]) for of, base in PAIRS if {of, base} <= values.keys()]
        if output == "sam_and_hq":
            bare = plain[source][prompt]["sam_only"][metric]
            pairs += [(name, "plain_sam", value - bare) for name, value in values.items()]
        if (source, output) == ("torch", "sam_and_hq"):
            own = (source, prompt, "sam_only", metric)
            pairs += [
                (name, "sam_only", value - np.array(_values(measured[name], own))) for name, value in values.items()
            ]
        rows += [{"of": of, "from": base, **_named(column), **interval(list(d))} for of, base, d in pairs]
    return rows


def curve_means(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """mIoU of the released output by variant, prompt and step: `mean`, `min` and `max` over the seeds."""
    rows = []
    for variant, of_it in _by_variant(runs).items():
        for points in zip(*(run["curve"] for run in of_it), strict=True):
            for prompt in (name for name in points[0] if name != "step"):
                values = [point[prompt] for point in points]
                spread = {"mean": mean(values), "min": min(values), "max": max(values)}
                rows.append({"variant": variant, "prompt": prompt, "step": points[0]["step"], **spread})
    return rows


def curve_table(curves: Sequence[Mapping[str, Any]]) -> str:
    """Means over the seeds in points, a row per step, a column per variant and prompt."""
    columns = list(dict.fromkeys((row["prompt"], row["variant"]) for row in curves))
    cells = {(row["prompt"], row["variant"], row["step"]): f"{100 * row['mean']:.1f}" for row in curves}
    steps = sorted({row["step"] for row in curves})
    rows = [(str(step), *(cells[prompt, variant, step] for prompt, variant in columns)) for step in steps]
    return format_table(("steps", *(f"{prompt}: {variant}" for prompt, variant in columns)), rows)


def report(results: Mapping[str, Any]) -> str:
    """Two Markdown tables per prompt, in points (hundredths)."""
    return "\n\n".join(part for prompt in results["plain_sam"]["torch"] for part in _of_prompt(results, prompt))


def _of_prompt(results: Mapping[str, Any], prompt: str) -> Iterator[str]:
    metrics = tuple(METRICS.values())
    rows = [
        ("SAM without HQ", source, "", *(f"{100 * scores[prompt]['sam_only'][metric]:.2f}" for metric in METRICS))
        for source, scores in results["plain_sam"].items()
    ]
    for key, cells in _grouped(results["means"], prompt, ("variant", "source", "output")).items():
        rows.append((*key, *(_plus_minus(cells[metric]) for metric in METRICS)))
    table = format_table(("HQ token", "run by", "output", *metrics), rows)
    yield f"{prompt} prompts, mean over {len(results['seeds'])} seeds\n\n{table}"
    rows = []
    for (of, base, source, output), cells in _grouped(
        results["differences"], prompt, ("of", "from", "source", "output")
    ).items():
        rows.append((f"{of} - {base}", source, output, *(_signed(cells[metric]) for metric in METRICS)))
    table = format_table(("difference", "run by", "output", *metrics), rows)
    yield f"{prompt} prompts, differences within a seed\n\n{table}"


def _grouped(
    rows: Sequence[Mapping[str, Any]], prompt: str, names: Sequence[str]
) -> dict[tuple[str, ...], dict[str, Mapping[str, Any]]]:
    """The prompt's rows by the values of `names`, then by metric."""
    groups: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["prompt"] == prompt:
            groups.setdefault(tuple(row[name] for name in names), {})[row["metric"]] = row
    return groups


def _plus_minus(cell: Mapping[str, float]) -> str:
    return f"{100 * cell['mean']:.2f} ± {100 * (cell['high'] - cell['mean']):.2f}"


def _signed(cell: Mapping[str, float]) -> str:
    return f"{100 * cell['mean']:+.2f} ({100 * cell['low']:+.2f} … {100 * cell['high']:+.2f})"


Column = tuple[str, str, str, str]  # source, prompt, output, metric


def _columns(scores: Mapping[str, Scores]) -> Iterator[Column]:
    for source, by_prompt in scores.items():
        for prompt, by_output in by_prompt.items():
            for output in by_output:
                for metric in METRICS:
                    yield source, prompt, output, metric


def _named(column: Column) -> dict[str, str]:
    return dict(zip(("source", "prompt", "output", "metric"), column, strict=True))


def _by_variant(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each variant, in the order of their seeds."""
    variants: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        variants.setdefault(run["variant"], []).append(run)
    return variants


def _values(runs: Sequence[Run], column: Column) -> list[float]:
    """One value per seed."""
    source, prompt, output, metric = column
    return [run["scores"][source][prompt][output][metric] for run in runs]
