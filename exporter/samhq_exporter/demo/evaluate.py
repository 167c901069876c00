"""Mask quality on held-out scenes, and what HQ adds to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model import PlainSam
from ..training.data import Batch, Sample, collate
from ..training.evaluate import OUTPUTS, Metrics, object_scores, output_names, summarise
from ..training.prompts import Prompts, boxes, padding, points_in

HELD_OUT_SEED = 1_000_000_000  # training seeds stay below

_IMAGES_AT_ONCE = 8
_RESAMPLED = 10_000


def held_out_seeds(count: int) -> range:
    return range(HELD_OUT_SEED, HELD_OUT_SEED + count)


def held_out_prompts(samples: Sequence[Sample]) -> Iterator[tuple[Sequence[Sample], Batch, dict[str, Prompts]]]:
    """The samples a few at a time, as a batch, with a `box` and a `point` prompt for each object; always the same."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(samples), _IMAGES_AT_ONCE):
        some = samples[start : start + _IMAGES_AT_ONCE]
        batch = collate(some)
        points = points_in(batch.masks, 1, 1.0, generator=generator) + padding(len(batch.masks))
        yield some, batch, {"box": boxes(batch.masks), "point": points}


def evaluate(sam: PlainSam, samples: Sequence[Sample]) -> dict[str, dict[str, Metrics]]:
    """Metrics by prompt (`box`, `point`) and output (`sam_and_hq`, `sam_only`, `hq_only`; the second alone of SAM)."""
    return {name: summarise(values, output_names(sam)) for name, values in held_out_scores(sam, samples).items()}


def held_out_scores(sam: PlainSam, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """By prompt, the IoU and boundary IoU of every object and output, (M,K,2)."""
    return object_scores(sam, ((batch, prompts) for _, batch, prompts in held_out_prompts(samples)))


def gains(scores: Mapping[str, Tensor], objects: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """Of the released output over the SAM mask of the same decoder, by prompt and metric: `mean`, `low`, `high`.

    Paired object by object; the 95 % interval is a percentile bootstrap over scenes, whose objects are not independent.

    Args:
        scores: of a SAM-HQ, as `held_out_scores` gives them.
        objects: how many each scene has.
    """
    scene = np.repeat(np.arange(len(objects)), objects)
    counts = np.random.default_rng(0).multinomial(len(objects), np.full(len(objects), 1 / len(objects)), _RESAMPLED)
    summary = {}
    for name, values in scores.items():
        both, sam_only = (values[:, list(OUTPUTS).index(output)] for output in ("sam_and_hq", "sam_only"))
        summary[name] = {
            metric: _interval((both - sam_only)[:, column].numpy().astype(float), counts[:, scene])
            for column, metric in enumerate(("iou", "boundary_iou"))
        }
    return summary


def _interval(values: NDArray[np.float64], weights: NDArray[np.int64]) -> dict[str, float]:
    """Of the mean of `values` (M,), with `weights` (R,M): how often each is in the R resamples."""
    low, high = np.quantile(weights @ values / weights.sum(axis=1), [0.025, 0.975])
    return {"mean": round(values.mean(), 5), "low": round(float(low), 5), "high": round(float(high), 5)}
