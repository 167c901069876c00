"""Mask quality on held-out scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from samhq_runtime.contract import NUM_SAM_TOKENS
from samhq_runtime.evaluation import boundary_iou, iou

from ..model import PlainSam, Sam
from .data import Batch, Sample, collate
from .prompts import Prompts, boxes, padding, points_in

HELD_OUT_SEED = 1_000_000_000  # training seeds stay below
SAM_AND_HQ = torch.tensor([[1.0, 0, 0, 0, 1]])  # the output of the released models
SAM_ONLY = torch.tensor([[1.0, 0, 0, 0, 0]])
HQ_ONLY = torch.tensor([[0.0, 0, 0, 0, 1]])
OUTPUTS = {"sam_and_hq": SAM_AND_HQ, "sam_only": SAM_ONLY, "hq_only": HQ_ONLY}

_IMAGES_AT_ONCE = 8

Metrics = dict[str, float]


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
    outputs = OUTPUTS if isinstance(sam, Sam) else {"sam_only": SAM_ONLY[:, :NUM_SAM_TOKENS]}
    scores: dict[str, list[Tensor]] = {"box": [], "point": []}
    sam.eval()
    for _, batch, by_name in held_out_prompts(samples):
        with torch.no_grad():
            features = sam.encode_image(batch.images)
        for name, prompts in by_name.items():
            predicted = predict(sam, features, prompts, batch.image_index, torch.cat(list(outputs.values())))
            scores[name].append(score(predicted > 0, batch.masks[:, None]))
    return {name: summarise(torch.cat(parts), tuple(outputs)) for name, parts in scores.items()}


@torch.no_grad()
def predict(
    sam: PlainSam, features: Sequence[Tensor], prompts: Prompts, image_index: Tensor, weights: Tensor
) -> Tensor:
    """Logits at the input frame's resolution, (M,K,S,S) for K rows of `mask_weights`."""
    no_mask = torch.zeros(1, 1, *(2 * [4 * sam.arch.embedding_size]))
    args = [*features, prompts.coords, prompts.labels, no_mask, torch.zeros(1), image_index, weights]
    logits, _ = sam.decode_masks(*args)
    return F.interpolate(logits, size=sam.arch.image_size, mode="bilinear", align_corners=False)


def score(predicted: Tensor, truth: Tensor) -> Tensor:
    """(M,K,S,S) and (M,1,S,S) bool -> (M,K,2): IoU and boundary IoU, as `samhq eval` measures them."""
    pairs = zip(predicted.numpy(), truth[:, 0].numpy(), strict=True)
    scores = [[(iou(mask, true), boundary_iou(mask, true)) for mask in masks] for masks, true in pairs]
    return torch.tensor(scores, dtype=torch.float32)


def summarise(scores: Tensor, outputs: Sequence[str]) -> dict[str, Metrics]:
    """(M,K,2) for K outputs -> means, and the spread of the IoU."""
    summary = {}
    for name, column in zip(outputs, scores.unbind(1), strict=True):
        quantiles = column[:, 0].quantile(torch.tensor([0.0, 0.05, 0.25, 0.5]))
        means = dict(zip(("mean_iou", "mean_boundary_iou"), column.mean(0).tolist(), strict=True))
        spread = dict(zip(("min_iou", "p5_iou", "p25_iou", "median_iou"), quantiles.tolist(), strict=True))
        summary[name] = {key: round(value, 5) for key, value in (means | spread).items()}
    return summary
