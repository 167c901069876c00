"""Images with the masks of their objects, in the form the training reads, and random batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import PIXEL_MEAN, PIXEL_STD


@dataclass(frozen=True)
class Sample:
    """One image in the model's input frame: `image` (3,S,S) uint8, `masks` (N,S,S) bool, none of them empty."""

    image: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Batch:
    """B images and M objects of them.

    `images` (B,3,S,S) normalised, `masks` (M,S,S) bool, `image_index` (M,).
    """

    images: Tensor
    masks: Tensor
    image_index: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.images.to(device), self.masks.to(device), self.image_index.to(device))


class Source(Protocol):
    """What batches are drawn from."""

    def __len__(self) -> int: ...

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Sample `index`, changed at random in ways that a mask survives."""
        ...


def normalise(images: Tensor) -> Tensor:
    """(B,3,S,S) RGB in 0..255 -> the encoder's input."""
    mean, std = torch.tensor(PIXEL_MEAN)[:, None, None], torch.tensor(PIXEL_STD)[:, None, None]
    return (images.float() - mean) / std


def collate(samples: Sequence[Sample]) -> Batch:
    """All objects of the samples."""
    counts = torch.tensor([len(sample.masks) for sample in samples])
    return Batch(
        images=normalise(torch.stack([sample.image for sample in samples])),
        masks=torch.cat([sample.masks for sample in samples]),
        image_index=torch.repeat_interleave(torch.arange(len(samples)), counts),
    )


def random_batch(source: Source, *, images: int, objects: int, rng: np.random.Generator) -> Batch:
    """`images` random samples and `objects` of each; where there are fewer objects, some come twice."""
    chosen = []
    for index in rng.choice(len(source), images, replace=False):
        sample = source.draw(int(index), rng)
        order = np.resize(rng.permutation(len(sample.masks)), objects)
        chosen.append(Sample(sample.image, sample.masks[torch.from_numpy(order)]))
    return collate(chosen)


def low_res_targets(masks: Tensor, side: int) -> Tensor:
    """(M,S,S) bool -> (M,side,side): the share of each low-resolution pixel that the mask covers."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), side)[:, 0]
