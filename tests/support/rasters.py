"""Rasters drawn for tests, and a generator of masks that finds what was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def blobs(width: int, height: int, *, seed: int) -> NDArray[np.uint8]:
    """(height, width) labels from 1 on of objects that do not touch, some of them larger than a tile; 0 is none."""
    from scipy.ndimage import gaussian_filter, label

    noise = np.random.default_rng(seed).normal(size=(height, width))
    labels, count = label(gaussian_filter(noise, 9) > 0.015)
    assert count < 255
    return np.asarray(labels, np.uint8)


def write_raster(path: Path, values: NDArray[Any], **profile: Any) -> Path:
    """(bands, H, W) values as a GeoTIFF; `profile` says more of it."""
    import rasterio

    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as raster:
        raster.write(values)
    return path


@dataclass
class Labels:
    """A generator whose masks are the pixels of one shade each; without black ones, or all of a picture as one mask."""

    everything: bool = False
    most: int = 1_000_000  # pictures, before Ctrl-C
    pictures: int = 0

    def generate(self, image: NDArray[np.uint8]) -> list[dict[str, Any]]:
        if self.pictures == self.most:
            raise KeyboardInterrupt
        self.pictures += 1
        shades = image[..., 0]
        masks = [np.ones(shades.shape, bool)] if self.everything else [shades == s for s in np.unique(shades) if s]
        return [{"segmentation": mask, "predicted_iou": 0.9, "stability_score": 0.95} for mask in masks]
