"""What masks are trained on."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_BCE_WEIGHT = 4.0


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Dice and cross-entropy of (M,K,L,L) logits against (M,L,L) coverage in [0, 1], one value per mask (M,K)."""
    targets = targets[:, None].expand_as(logits)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean((2, 3))
    probability = logits.sigmoid()
    overlap = 2 * (probability * targets).sum((2, 3))
    dice = 1 - (overlap + 1) / (probability.sum((2, 3)) + targets.sum((2, 3)) + 1)
    return dice + _BCE_WEIGHT * cross_entropy


def iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union over the last two axes of bool tensors; 1 where both are empty."""
    union = (predicted | truth).sum((-2, -1))
    return torch.where(union > 0, (predicted & truth).sum((-2, -1)) / union.clamp(min=1), 1.0)
