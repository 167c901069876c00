"""Images and masks on disk as samples in the model's input frame, read when they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from samhq_runtime.errors import DatasetError
from samhq_runtime.evaluation.dataset import Dataset, Unusable
from samhq_runtime.frames.geometry import fit_longest_side

from ..architecture import PIXEL_MEAN
from .data import Sample

_NAMED = 5  # of the files that are left out

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """A `Source`: images of a dataset by name, mirrored at random.

    As upstream resizes for prediction: the longest side becomes `side` pixels, the rest is filled up with the mean
    colour, which is 0 for the model.
    """

    dataset: Dataset
    names: Sequence[str]
    side: int

    def __len__(self) -> int:
        return len(self.names)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        image, masks = self._read(self.names[index])
        if rng.random() < 0.5:
            image, masks = image[:, ::-1], masks[:, :, ::-1]
        return to_frame(image, masks, self.side)

    def samples(self) -> Iterator[Sample]:
        """All of them, as they are."""
        return (to_frame(*self._read(name), self.side) for name in self.names)

    def _read(self, name: str) -> tuple[NDArray[np.uint8], Masks]:
        try:
            return read_pair(self.dataset, name)
        except Unusable as e:
            raise DatasetError(f"{name}: {e.reason} ({e.detail}), though it was readable before") from e


def read_pair(dataset: Dataset, name: str) -> tuple[NDArray[np.uint8], Masks]:
    """(H,W,3) and the (N,H,W) masks that are not empty; Unusable if there is none, or a mask cannot be used."""
    sample = dataset.read(name)
    masks = [mask for mask in map(sample.read_mask, sample.targets) if mask.any()]
    if not masks:
        raise Unusable("empty mask", name)
    return sample.image, np.stack(masks)


def usable_names(dataset: Dataset, names: Iterator[str] | Sequence[str]) -> tuple[list[str], list[str]]:
    """The names that can be trained on, and one line per reason why others cannot; DatasetError if none can."""
    usable, left_out = [], [(skip.reason, skip.detail or skip.image) for skip in dataset.left_out]
    for name in names:
        try:
            read_pair(dataset, name)
            usable.append(name)
        except Unusable as e:
            left_out.append((e.reason, f"{name}: {e.detail}" if e.detail else name))
    lines = list(_by_reason(left_out))
    if not usable:
        raise DatasetError("\n".join([f"{dataset.path}: no image with a usable mask", *lines]))
    return usable, lines


def _by_reason(left_out: Sequence[tuple[str, str]]) -> Iterator[str]:
    for reason, count in Counter(reason for reason, _ in left_out).items():
        details = [detail for found, detail in left_out if found == reason]
        more = f", and {count - _NAMED} more" if count > _NAMED else ""
        yield f"left out, {reason}: {'; '.join(details[:_NAMED])}{more}"


def to_frame(image: NDArray[np.uint8], masks: Masks, side: int) -> Sample:
    """(H,W,3) and (N,H,W) in the frame of a model with `side`-pixel inputs."""
    height, width = fit_longest_side(image.shape[:2], side)
    framed = np.empty((side, side, 3), np.uint8)
    framed[:] = np.round(PIXEL_MEAN)
    framed[:height, :width] = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    framed_masks = np.zeros((len(masks), side, side), bool)
    for target, mask in zip(framed_masks, masks, strict=True):
        target[:height, :width] = _resize_mask(mask, (height, width))
    return Sample(_channels_first(framed), torch.from_numpy(framed_masks))


def _resize_mask(mask: NDArray[np.bool_], hw: tuple[int, int]) -> NDArray[np.bool_]:
    """At least half of each pixel is covered; of an object too small for that, any part of it."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    coverage = np.asarray(picture.resize((hw[1], hw[0]), Image.Resampling.BOX))
    solid = coverage >= 128
    return np.asarray(solid if solid.any() else coverage == coverage.max())


def _channels_first(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()
