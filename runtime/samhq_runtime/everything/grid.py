"""Where the points are, and the crops: layer n has 2**n crops a side, layer 0 is the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ..contract import Float64
from ..errors import ConfigError, ImageError
from ..frames.numbers import finite_numbers

Crop = tuple[int, int, int, int]  # x0, y0, x1, y1


def regular_grids(points_per_side: int, layers: int, downscale_factor: int) -> list[Float64]:
    """A grid for the image and for the crops of each layer, (N,2) x, y from 0 to 1; each in the middle of its square.

    Raises:
        ConfigError: a layer is left without points.
    """
    sides = [int(points_per_side / downscale_factor**layer) for layer in range(layers + 1)]
    if not all(sides):
        raise ConfigError(
            f"crop_n_points_downscale_factor: got {downscale_factor}, which leaves crops of layer {sides.index(0)} no "
            f"points of {points_per_side} a side; expected a smaller one, or fewer crop_n_layers"
        )
    return [_grid(side) for side in sides]


def own_grids(point_grids: Sequence[ArrayLike], layers: int) -> list[Float64]:
    """Grids as the caller gives them, one for the image and one for each layer of crops.

    Raises:
        ConfigError: too few, empty, of another shape, or outside 0 to 1.
    """
    grids = [finite_numbers("point_grids", grid) for grid in point_grids]
    if len(grids) <= layers:
        raise ConfigError(
            f"point_grids: got {len(grids)}, expected {layers + 1}: of the image and crop_n_layers {layers}"
        )
    for grid in grids:
        if grid.ndim != 2 or grid.shape[1] != 2 or not len(grid) or grid.min() < 0 or grid.max() > 1:
            raise ConfigError(f"point_grids: got shape {grid.shape}, expected (N, 2), N >= 1, x and y from 0 to 1")
    return grids


def crops_of(original_hw: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[Crop, int]]:
    """The image and its crops, each with its layer; all crops of a layer are of one size, but at the far edges.

    Raises:
        ImageError: the image is smaller than its crops would be many.
    """
    height, width = original_hw
    crops: list[tuple[Crop, int]] = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(original_hw) * (2 / count))
        crop_h, crop_w = (math.ceil((overlap * (count - 1) + length) / count) for length in original_hw)
        lefts, tops = ([(size - overlap) * i for i in range(count)] for size in (crop_w, crop_h))
        if lefts[-1] >= width or tops[-1] >= height:
            raise ImageError(
                f"image of {width} x {height} pixels: too small for {count} x {count} crops; give a smaller "
                f"crop_n_layers than {layers}"
            )
        crops += [((x, y, min(x + crop_w, width), min(y + crop_h, height)), layer) for x, y in product(lefts, tops)]
    return crops


def _grid(side: int) -> Float64:
    offset = 1 / (2 * side)
    along = np.linspace(offset, 1 - offset, side)
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
