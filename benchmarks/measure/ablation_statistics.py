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
# Pairs of the published order.
PAIRS = (("hadamard", "independent"), ("hadamard", "sum"), ("sum", "independent"))
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
    """One row per fusion, source (torch or a bundle), prompt, output and metric."""
    rows = []
    for fusion in _fusions(runs):
        for column in _columns(runs[0]["scores"]):
            rows.append({"token_fusion": fusion, **_named(column), **interval(_values(runs, fusion, column))})
    return rows


def differences(runs: Sequence[Run], plain: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """`of` minus `from` in the same seed: between fusions, and each fusion against SAM's masks without HQ.

    `plain` holds the scores of the frozen SAM by source.
    """
    rows = []
    for source, prompt, output, metric in _columns(runs[0]["scores"]):
        column = (source, prompt, output, metric)
        values = {fusion: np.array(_values(runs, fusion, column)) for fusion in _fusions(runs)}
        if output == "sam_only":
            continue
        pairs = [(of, base, values[of] - values[base]) for of, base in PAIRS if {of, base} <= values.keys()]
        if output == "sam_and_hq":
            bare = plain[source][prompt]["sam_only"][metric]
            pairs += [(fusion, "plain_sam", value - bare) for fusion, value in values.items()]
        if (source, output) == ("torch", "sam_and_hq"):
            for fusion, value in values.items():
                own = _values(runs, fusion, (source, prompt, "sam_only", metric))
                pairs.append((fusion, "sam_only", value - np.array(own)))
        rows += [{"of": of, "from": base, **_named(column), **interval(list(d))} for of, base, d in pairs]
    return rows


def report(results: Mapping[str, Any]) -> str:
    """Two Markdown tables per prompt, in points (hundredths)."""
    return "\n\n".join(part for prompt in results["plain_sam"]["torch"] for part in _of_prompt(results, prompt))


def _of_prompt(results: Mapping[str, Any], prompt: str) -> Iterator[str]:
    metrics = tuple(METRICS.values())
    rows = [
        ("SAM without HQ", source, "", *(f"{100 * scores[prompt]['sam_only'][metric]:.2f}" for metric in METRICS))
        for source, scores in results["plain_sam"].items()
    ]
    for key, cells in _grouped(results["means"], prompt, ("token_fusion", "source", "output")).items():
        rows.append((*key, *(_plus_minus(cells[metric]) for metric in METRICS)))
    table = format_table(("token fusion", "run by", "output", *metrics), rows)
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


def _fusions(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run["token_fusion"] for run in runs))


def _values(runs: Sequence[Run], fusion: str, column: Column) -> list[float]:
    """One value per seed, in the order of the seeds."""
    source, prompt, output, metric = column
    chosen = sorted((run for run in runs if run["token_fusion"] == fusion), key=lambda run: run["seed"])
    return [run["scores"][source][prompt][output][metric] for run in chosen]
