"""Mask quality of a PyTorch model: IoU and boundary IoU, as `samhq eval` measures them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from samhq_runtime.contract import NUM_SAM_TOKENS
from samhq_runtime.evaluation import boundary_iou, iou

from ..model import PlainSam, Sam
from .compute import CPU, Compute
from .data import Batch
from .prompts import Prompts

SAM_AND_HQ = torch.tensor([[1.0, 0, 0, 0, 1]])  # the output of the released models
SAM_ONLY = torch.tensor([[1.0, 0, 0, 0, 0]])
HQ_ONLY = torch.tensor([[0.0, 0, 0, 0, 1]])
OUTPUTS = {"sam_and_hq": SAM_AND_HQ, "sam_only": SAM_ONLY, "hq_only": HQ_ONLY}

Metrics = dict[str, float]


def output_names(sam: PlainSam) -> tuple[str, ...]:
    return tuple(OUTPUTS) if isinstance(sam, Sam) else ("sam_only",)


def object_scores(
    sam: PlainSam, batches: Iterable[tuple[Batch, Mapping[str, Prompts]]], compute: Compute = CPU
) -> dict[str, Tensor]:
    """By name of the prompts, the IoU and boundary IoU of every object and output, (M,K,2)."""
    rows = torch.cat([OUTPUTS[name] for name in output_names(sam)])
    weights = (rows if isinstance(sam, Sam) else rows[:, :NUM_SAM_TOKENS]).to(compute.device)
    scores: dict[str, list[Tensor]] = {}
    for batch, by_name in batches:
        here = batch.to(compute.device)
        with torch.no_grad(), compute.autocast():
            features = sam.encode_image(here.images)
            for name, prompts in by_name.items():
                predicted = predict(sam, features, prompts.to(compute.device), here.image_index, weights)
                scores.setdefault(name, []).append(score(predicted.cpu() > 0, batch.masks[:, None]))
    return {name: torch.cat(parts) for name, parts in scores.items()}


def predict(
    sam: PlainSam, features: Sequence[Tensor], prompts: Prompts, image_index: Tensor, weights: Tensor
) -> Tensor:
    """Logits at the input frame's resolution, (M,K,S,S) for K rows of `mask_weights`."""
    no_mask = weights.new_zeros(1, 1, *(2 * [4 * sam.arch.embedding_size]))
    args = [*features, prompts.coords, prompts.labels, no_mask, weights.new_zeros(1), image_index, weights]
    logits, _ = sam.decode_masks(*args)
    return F.interpolate(logits.float(), size=sam.arch.image_size, mode="bilinear", align_corners=False)


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
