"""Held-out scenes as a person sees them: the image, SAM's masks and SAM-HQ's, with the truth's outlines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime.masks.overlay import draw_comparison

from ..model import Sam
from ..training.data import Sample, collate
from ..training.evaluate import SAM_AND_HQ, SAM_ONLY, predict
from ..training.prompts import boxes

_NAMES = ("SAM", "SAM-HQ")


def write_pictures(sam: Sam, samples: Sequence[Sample], path: Path) -> None:
    """One row per sample, for box prompts, as a PNG."""
    rows = [_row(sam, sample) for sample in samples]
    Image.fromarray(np.concatenate(rows)).save(path)


@torch.no_grad()
def _row(sam: Sam, sample: Sample) -> NDArray[np.uint8]:
    batch = collate([sample])
    prompts = boxes(batch.masks)
    weights = torch.cat([SAM_ONLY, SAM_AND_HQ])
    logits = predict(sam, sam.encode_image(batch.images), prompts, batch.image_index, weights)
    masks = {name: logits[:, index].numpy() > 0 for index, name in enumerate(_NAMES)}
    image = sample.image.permute(1, 2, 0).contiguous().numpy()
    return draw_comparison(image, masks, prompts.coords.flatten(1).numpy(), sample.masks.numpy())
