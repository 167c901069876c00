"""The result of an evaluation: JSON for machines, tables for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..tables import format_table
from .dataset import Skip
from .summary import SIZES, Comparison, Interval, Scores

REPORT_NAME = "report.json"
SCHEMA_VERSION = 1

_SKIPS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """One column: a bundle under one choice of providers."""

    name: str
    path: str
    variant: str
    precision: str
    content_sha256: str
    providers: tuple[str, ...]
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything measured; `comparisons` are against the first bundle. `skipped` names all that was left out."""

    dataset: Mapping[str, Any]
    setting: Mapping[str, Any]
    bundles: tuple[BundleReport, ...]
    comparisons: tuple[Comparison, ...]
    skipped: tuple[Skip, ...]
    runtime_version: str

    def to_json(self) -> str:
        counts = dict(Counter(skip.reason for skip in self.skipped))
        content = {"schema_version": SCHEMA_VERSION, **asdict(self), "skipped_counts": counts}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def to_text(self) -> str:
        """Markdown tables, and one line for each reason something was left out."""
        parts = [_scores_table(self.bundles), _sizes_table(self.bundles)]
        if self.comparisons:
            parts.append(_comparisons_table(self.comparisons))
        notes = [*_notes(self.bundles), *_skips(self.skipped)]
        return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def _scores_table(bundles: Sequence[BundleReport]) -> str:
    header = ("bundle", "precision", "images", "objects", "mIoU", "95 %", "mBIoU", "95 %", "calibration error")
    rows = []
    for bundle in bundles:
        s = bundle.scores
        row = [bundle.name, bundle.precision, str(s.images), str(s.objects), _percent(s.mean_iou)]
        row += [_range(s.mean_iou_interval), _percent(s.mean_boundary_iou), _range(s.mean_boundary_iou_interval)]
        rows.append([*row, _percent(s.calibration.expected_error)])
    return format_table(header, rows)


def _sizes_table(bundles: Sequence[BundleReport]) -> str:
    header = ["mIoU / mBIoU by size"]
    for size in SIZES:
        header.append(f"{size} ({bundles[0].scores.by_size[size].objects})")
    rows = []
    for bundle in bundles:
        groups = [bundle.scores.by_size[size] for size in SIZES]
        rows.append([bundle.name, *(f"{_percent(g.mean_iou)} / {_percent(g.mean_boundary_iou)}" for g in groups)])
    return format_table(header, rows)


def _comparisons_table(comparisons: Sequence[Comparison]) -> str:
    header = (f"less {comparisons[0].baseline}", "mIoU", "95 %", "mBIoU", "95 %", "changed", "largest IoU drop")
    rows = [
        (
            c.bundle,
            _percent(c.mean_iou_difference, signed=True),
            _range(c.mean_iou_interval, signed=True),
            _percent(c.mean_boundary_iou_difference, signed=True),
            _range(c.mean_boundary_iou_interval, signed=True),
            f"{c.changed:.1%}",
            f"{_percent(c.largest_drop)} ({c.largest_drop_image}: {c.largest_drop_target})",
        )
        for c in comparisons
    ]
    return format_table(header, rows)


def _notes(bundles: Sequence[BundleReport]) -> list[str]:
    return [
        f"{b.name}: {b.scores.non_finite} objects with NaN or infinity in their logits or predicted IoU"
        for b in bundles
        if b.scores.non_finite
    ]


def _skips(skipped: Sequence[Skip]) -> list[str]:
    lines = []
    for reason, count in Counter(skip.reason for skip in skipped).most_common():
        names = [_name(skip) for skip in skipped if skip.reason == reason]
        more = f", and {count - _SKIPS_SHOWN} more in {REPORT_NAME}" if count > _SKIPS_SHOWN else ""
        lines.append(f"left out, {reason}: {count} ({', '.join(names[:_SKIPS_SHOWN])}{more})")
    return lines


def _name(skip: Skip) -> str:
    return skip.image if skip.target in (None, skip.image) else f"{skip.image}: {skip.target}"


def _percent(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    return f"{100 * value:{'+' if signed else ''}.2f}"


def _range(interval: Interval, *, signed: bool = False) -> str:
    return " .. ".join(_percent(value, signed=signed) for value in interval)
