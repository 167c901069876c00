"""What both training stages minimise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_BCE_WEIGHT = 4.0
_MULTIMASK_WEIGHT = 0.5
_IOU_WEIGHT = 0.5


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice and cross-entropy of (M,K,L,L) logits against (M,L,L) coverage in [0, 1], one value per mask (M,K)."""
    targets = targets[:, None].expand_as(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((2, 3))
    probability = logits.sigmoid()
    overlap = 2 * (probability * targets).sum((2, 3))
    dice = 1 - (overlap + 1) / (probability.sum((2, 3)) + targets.sum((2, 3)) + 1)
    return dice + _BCE_WEIGHT * cross_entropy


def sam_loss(logits: Tensor, iou_predictions: Tensor, targets: Tensor) -> Tensor:
    """Loss of the 4 SAM tokens: the first as it is, the best of the other three, and how well the IoU is foretold.

    `logits` (M,4,L,L), `iou_predictions` (M,4), `targets` (M,L,L).
    """
    per_mask = mask_loss(logits, targets)
    iou_error = F.mse_loss(iou_predictions, iou(logits > 0, targets[:, None] >= 0.5))
    best = per_mask[:, 1:].amin(1)
    return (per_mask[:, 0] + _MULTIMASK_WEIGHT * best).mean() + _IOU_WEIGHT * iou_error


def iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union over the last two axes of bool tensors; 1 where both are empty."""
    union = (predicted | truth).sum((-2, -1))
    return torch.where(union > 0, (predicted & truth).sum((-2, -1)) / union.clamp(min=1), 1.0)
