"""Seeded images and requests of the load test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samhq_runtime.contract import Array
from samhq_runtime.frames.image_files import encode_png


@dataclass(frozen=True)
class Request:
    """One of an image's prompts."""

    image: int
    prompt: int
    prompts: Sequence[Sequence[dict[str, Array]]]

    @property
    def arguments(self) -> dict[str, Any]:
        """For `Predictor.predict`, and for the server by the same names."""
        return {**self.prompts[self.image][self.prompt]}


def make_images(count: int) -> list[bytes]:
    """PNG files of different shapes: smooth blobs on a gradient, so that masks are not noise."""
    return [encode_png(_picture(np.random.default_rng(seed))) for seed in range(count)]


def _picture(rng: np.random.Generator) -> Array:
    height, width = (int(n) for n in rng.integers(120, 480, 2))
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 200 / width, y * 200 / height, (x + y) * 200 / (width + height)], -1)
    for _ in range(6):
        centre, radius = rng.random(2) * (height, width), rng.uniform(0.05, 0.3) * min(height, width)
        image[np.hypot(y - centre[0], x - centre[1]) < radius] = rng.integers(0, 256, 3)
    return image.astype(np.uint8)


def make_requests(count: int, images: int) -> list[Request]:
    """Four prompts an image, boxes and points; images come and go, each asked about in a burst, as people do."""
    rng = np.random.default_rng(1)
    prompts = [[_box(rng), _point(rng), _box(rng), _point(rng)] for _ in range(images)]
    requests = []
    for i in range(count):
        image = (i * images // count + int(rng.integers(0, 8))) % images
        requests.append(Request(image, int(rng.integers(0, 4)), prompts))
    return requests


def _box(rng: np.random.Generator) -> dict[str, Array]:
    start = rng.random(2) * 60
    return {"box": np.concatenate([start, start + rng.random(2) * 60 + 5])[None].astype(np.float32)}


def _point(rng: np.random.Generator) -> dict[str, Array]:
    coords = (rng.random(2) * 100)[None, None].astype(np.float32)
    return {"point_coords": coords, "point_labels": np.ones((1, 1), np.float32)}
