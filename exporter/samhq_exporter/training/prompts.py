"""Prompts simulated from ground-truth masks, as a user would place them.

Coordinates are pixels of the model's input frame. Labels: 1 foreground, 0 background, 2 and 3 box corners, -1 padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompts:
    """`coords` (M,N,2) x and y, `labels` (M,N)."""

    coords: Tensor
    labels: Tensor

    def __add__(self, other: Prompts) -> Prompts:
        """Both prompts for each object, `other` after this one."""
        return Prompts(torch.cat([self.coords, other.coords], 1), torch.cat([self.labels, other.labels], 1))

    def to(self, device: torch.device) -> Prompts:
        return Prompts(self.coords.to(device), self.labels.to(device))


def boxes(masks: Tensor, *, jitter: float = 0.0, generator: torch.Generator | None = None) -> Prompts:
    """The bounding boxes of (M,S,S) bool masks; each corner is moved by up to `jitter` of the box's sides."""
    columns, rows = _extent(masks.any(1)), _extent(masks.any(2))
    corners = torch.stack([columns, rows], dim=-1)  # (M, first or last, x or y)
    if jitter:
        sides = corners[:, 1:] - corners[:, :1]
        noise = 2 * torch.rand(corners.shape, generator=generator) - 1
        corners = (corners + jitter * sides * noise).clamp(0, masks.shape[-1] - 1)
    return Prompts(corners, torch.tensor([2.0, 3.0]).expand(len(masks), 2))


def _extent(occupied: Tensor) -> Tensor:
    """(M,S) bool -> (M,2): first and last True."""
    values = occupied.to(torch.uint8)
    last = occupied.shape[1] - 1 - values.flip(1).argmax(1)
    return torch.stack([values.argmax(1), last], dim=1).float()


def points_in(masks: Tensor, count: int, label: float, *, generator: torch.Generator | None = None) -> Prompts:
    """`count` random pixels of each (M,S,S) bool mask, which must not be empty."""
    flat = torch.multinomial(masks.flatten(1).float(), count, replacement=True, generator=generator)
    side = masks.shape[-1]
    coords = torch.stack([flat % side, flat // side], dim=-1).float()
    return Prompts(coords, torch.full(coords.shape[:2], label))


def padding(count: int) -> Prompts:
    """The padding point that follows points when there is no box."""
    return Prompts(torch.zeros(count, 1, 2), torch.full((count, 1), -1.0))


def corrections(masks: Tensor, predicted: Tensor, *, generator: torch.Generator | None = None) -> Prompts:
    """One point for each (M,S,S) bool mask, in the region where `predicted` is wrong; in the mask if nothing is."""
    wrong = masks ^ predicted
    region = torch.where(_somewhere(wrong), wrong, masks)
    point = points_in(region, 1, 1.0, generator=generator)
    x, y = point.coords[:, 0].long().unbind(-1)
    inside = masks[torch.arange(len(masks)), y, x]
    return Prompts(point.coords, inside.float()[:, None])


def near_misses(masks: Tensor, *, generator: torch.Generator | None = None) -> Prompts:
    """One background point for each (M,S,S) bool mask, inside its bounding box if the mask leaves room there.

    Of a mask that leaves no room at all, one foreground point.
    """
    in_box = masks.any(1)[:, None, :] & masks.any(2)[:, :, None]
    around = in_box & ~masks
    region = torch.where(_somewhere(around), around, ~masks)
    is_background = _somewhere(region)
    point = points_in(torch.where(is_background, region, masks), 1, 0.0, generator=generator)
    return Prompts(point.coords, (~is_background).float().flatten(1))


def _somewhere(masks: Tensor) -> Tensor:
    """(M,S,S) -> (M,1,1)."""
    return masks.flatten(1).any(1)[:, None, None]
