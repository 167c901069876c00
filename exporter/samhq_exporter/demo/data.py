"""Scenes drawn in parallel and held in memory in the form the training reads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ..scenes.drawing import draw_scene
from ..training.data import Sample
from .coarse import coarsen


@dataclass(frozen=True)
class Scenes:
    """A `Source`: samples, changed by one of the square's 8 symmetries and a permutation of the colour channels."""

    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        sample = self.samples[index]
        flips = [axis for axis in (-2, -1) if rng.random() < 0.5]
        image, masks = sample.image.flip(flips), sample.masks.flip(flips)
        if rng.random() < 0.5:
            image, masks = image.transpose(-2, -1), masks.transpose(-2, -1)
        return Sample(image[torch.from_numpy(rng.permutation(3))], masks)


def draw_samples(seeds: Sequence[int], *, size: int, workers: int, coarse: bool = False) -> list[Sample]:
    """The scenes of `seeds`, in their order, drawn by `workers` processes; if `coarse`, with their masks coarsened."""
    with ProcessPoolExecutor(workers) as pool:
        scenes = pool.map(partial(_packed_scene, size=size, coarse=coarse), seeds, chunksize=16)
        return [_sample(image, bits, size) for image, bits in scenes]


def _packed_scene(seed: int, *, size: int, coarse: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Masks as bits: 8 times less to hand over between processes."""
    scene = draw_scene(seed, size)
    masks = np.stack([coarsen(mask) for mask in scene.masks]) if coarse else scene.masks
    return scene.image, np.packbits(masks, axis=2)


def _sample(image: NDArray[np.uint8], bits: NDArray[np.uint8], size: int) -> Sample:
    masks = np.unpackbits(bits, axis=2, count=size).astype(bool)
    return Sample(torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(masks))
