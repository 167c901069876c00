"""Means, breakdowns and paired differences of measured objects."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..contract import Float64
from .measure import ImageRecord, ObjectScore

# COCO's limits: the most pixels an object of each size has; small ends below 32^2.
SIZES = {"small": 32**2 - 1, "medium": 96**2, "large": sys.maxsize}
BINS = 10
CHANGED = 0.01  # an IoU that differs by more counts as changed

_RESAMPLES = 1000
_LEVEL = 95  # percent

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Means over a group of objects; None for an empty one."""

    objects: int
    mean_iou: float | None
    mean_boundary_iou: float | None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Objects whose predicted IoU lies in [lower, upper); the ends take what lies beyond them."""

    lower: float
    upper: float
    objects: int
    mean_predicted_iou: float | None
    mean_iou: float | None


@dataclass(frozen=True, kw_only=True)
class IouCalibration:
    """How well `iou_predictions` foretell the measured IoU.

    `expected_error` is the mean over objects of their bin's |mean predicted - mean measured|; `bias` is mean predicted
    minus mean measured: above zero means overconfident.
    """

    expected_error: float | None
    bias: float | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One bundle. Intervals are 95 % bootstrap intervals over images; `non_finite` objects had NaN or infinity."""

    objects: int
    images: int
    mean_iou: float
    mean_iou_interval: Interval
    mean_boundary_iou: float
    mean_boundary_iou_interval: Interval
    by_size: Mapping[str, Group]
    calibration: IouCalibration
    non_finite: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One bundle less the first, object by object; `largest_drop` is the IoU lost by the object that lost most."""

    bundle: str
    baseline: str
    objects: int
    mean_iou_difference: float
    mean_iou_interval: Interval
    mean_boundary_iou_difference: float
    mean_boundary_iou_interval: Interval
    changed: float
    largest_drop: float
    largest_drop_image: str
    largest_drop_target: str


def summarise(records: Sequence[ImageRecord]) -> Scores:
    """Scores of records that hold at least one object."""
    objects = [score for record in records for score in record.objects]
    images = [record.image for record in records for _ in record.objects]
    ious, boundaries = _column(objects, "iou"), _column(objects, "boundary_iou")
    return Scores(
        objects=len(objects),
        images=len(set(images)),
        mean_iou=float(ious.mean()),
        mean_iou_interval=_interval(ious, images),
        mean_boundary_iou=float(boundaries.mean()),
        mean_boundary_iou_interval=_interval(boundaries, images),
        by_size={name: _group([s for s in objects if size_of(s.area) == name]) for name in SIZES},
        calibration=iou_calibration(objects),
        non_finite=sum(not s.finite or s.predicted_iou is None for s in objects),
    )


def compare(
    name: str, records: Sequence[ImageRecord], baseline_name: str, baseline: Sequence[ImageRecord]
) -> Comparison:
    """Paired differences over the objects that both have."""
    pairs = list(paired(records, baseline))
    images = [image for image, _, _ in pairs]
    ious = np.array([a.iou - b.iou for _, a, b in pairs])
    boundaries = np.array([a.boundary_iou - b.boundary_iou for _, a, b in pairs])
    worst_image, worst, _ = pairs[int(ious.argmin())]
    return Comparison(
        bundle=name,
        baseline=baseline_name,
        objects=len(pairs),
        mean_iou_difference=float(ious.mean()),
        mean_iou_interval=_interval(ious, images),
        mean_boundary_iou_difference=float(boundaries.mean()),
        mean_boundary_iou_interval=_interval(boundaries, images),
        changed=float((np.abs(ious) > CHANGED).mean()),
        largest_drop=max(0.0, -float(ious.min())),
        largest_drop_image=worst_image,
        largest_drop_target=worst.target,
    )


def paired(
    records: Sequence[ImageRecord], baseline: Sequence[ImageRecord]
) -> Iterator[tuple[str, ObjectScore, ObjectScore]]:
    """Image name and the two scores of every object that both have."""
    known = {(record.image, score.target): score for record in baseline for score in record.objects}
    for record in records:
        for score in record.objects:
            if (record.image, score.target) in known:
                yield record.image, score, known[record.image, score.target]


def iou_calibration(objects: Sequence[ObjectScore]) -> IouCalibration:
    """Over the objects whose predicted IoU is finite."""
    finite = [s for s in objects if s.predicted_iou is not None]
    predicted, measured = _column(finite, "predicted_iou"), _column(finite, "iou")
    index = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    bins = tuple(_bin(i, predicted[index == i], measured[index == i]) for i in range(BINS))
    if not finite:
        return IouCalibration(expected_error=None, bias=None, bins=bins)
    gaps = [abs(predicted[index == i].sum() - measured[index == i].sum()) for i in range(BINS)]
    return IouCalibration(
        expected_error=float(sum(gaps) / len(finite)), bias=float((predicted - measured).mean()), bins=bins
    )


def size_of(area: int) -> str:
    """COCO's name for an object of this many pixels."""
    return next(name for name, most in SIZES.items() if area <= most)


def _bin(index: int, predicted: Float64, measured: Float64) -> Bin:
    some = len(predicted) > 0
    return Bin(
        lower=index / BINS,
        upper=(index + 1) / BINS,
        objects=len(predicted),
        mean_predicted_iou=float(predicted.mean()) if some else None,
        mean_iou=float(measured.mean()) if some else None,
    )


def _group(objects: Sequence[ObjectScore]) -> Group:
    if not objects:
        return Group(objects=0, mean_iou=None, mean_boundary_iou=None)
    return Group(
        objects=len(objects),
        mean_iou=float(_column(objects, "iou").mean()),
        mean_boundary_iou=float(_column(objects, "boundary_iou").mean()),
    )


def _column(objects: Sequence[ObjectScore], name: str) -> Float64:
    return np.array([getattr(score, name) for score in objects], dtype=np.float64)


def _interval(values: Float64, images: Sequence[str]) -> Interval:
    """Of the mean: images are drawn again, not objects, for those of one image are alike. Seeded."""
    _, index = np.unique(images, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    rng = np.random.default_rng(0)
    draws = (np.bincount(rng.integers(len(sums), size=len(sums)), minlength=len(sums)) for _ in range(_RESAMPLES))
    means = [float(draw @ sums / (draw @ counts)) for draw in draws]
    low, high = np.percentile(means, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
    return float(low), float(high)
