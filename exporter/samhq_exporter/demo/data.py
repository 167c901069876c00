"""Scenes drawn in parallel and held in memory in the form the training reads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..architecture import PIXEL_MEAN, PIXEL_STD
from ..scenes.drawing import Scene, draw_scene


@dataclass(frozen=True)
class Sample:
    """One scene: `image` (3,S,S) uint8, `masks` (N,S,S) bool."""

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


def draw_samples(seeds: Sequence[int], *, size: int, workers: int) -> list[Sample]:
    """The scenes of `seeds`, in their order, drawn by `workers` processes."""
    with ProcessPoolExecutor(workers) as pool:
        scenes = pool.map(partial(_packed_scene, size=size), seeds, chunksize=16)
        return [_sample(image, bits, size) for image, bits in scenes]


def _packed_scene(seed: int, *, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Masks as bits: 8 times less to hand over between processes."""
    scene: Scene = draw_scene(seed, size)
    return scene.image, np.packbits(scene.masks, axis=2)


def _sample(image: NDArray[np.uint8], bits: NDArray[np.uint8], size: int) -> Sample:
    masks = np.unpackbits(bits, axis=2, count=size).astype(bool)
    return Sample(torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(masks))


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


def random_batch(samples: Sequence[Sample], *, images: int, objects: int, rng: np.random.Generator) -> Batch:
    """`images` random samples, flipped and transposed at random, and `objects` of each; few-object scenes repeat."""
    chosen = []
    for index in rng.choice(len(samples), images, replace=False):
        sample = _augment(samples[int(index)], rng)
        order = np.resize(rng.permutation(len(sample.masks)), objects)
        chosen.append(Sample(sample.image, sample.masks[torch.from_numpy(order)]))
    return collate(chosen)


def _augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """One of the square's 8 symmetries, and a permutation of the colour channels."""
    flips = [axis for axis in (-2, -1) if rng.random() < 0.5]
    image, masks = sample.image.flip(flips), sample.masks.flip(flips)
    if rng.random() < 0.5:
        image, masks = image.transpose(-2, -1), masks.transpose(-2, -1)
    return Sample(image[torch.from_numpy(rng.permutation(3))], masks)


def low_res_targets(masks: Tensor, side: int) -> Tensor:
    """(M,S,S) bool -> (M,side,side): the share of each low-resolution pixel that the mask covers."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), side)[:, 0]
