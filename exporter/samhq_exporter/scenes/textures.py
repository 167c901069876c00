"""Random surfaces: a base colour with noise, a gradient, stripes, checks or dots on it.

All random draws have a fixed size, so one seed gives the same picture at any resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.float32]
Colour = NDArray[np.float64]

_GRAIN_CELLS = 192


def distinct_colour(rng: np.random.Generator, taken: list[Colour], *, distance: float) -> Colour:
    """An RGB colour in [0, 1] at least `distance` from all `taken` ones, or the farthest of many tries."""
    candidates: Colour = rng.uniform(0.08, 0.95, (48, 3))
    if not taken:
        return np.asarray(candidates[0])
    nearest = np.linalg.norm(candidates[:, None] - np.stack(taken)[None], axis=2).min(axis=1)
    far_enough = np.flatnonzero(nearest >= distance)
    return np.asarray(candidates[far_enough[0] if len(far_enough) else nearest.argmax()])


def surface(rng: np.random.Generator, colour: Colour, size: int) -> Field:
    """(size,size,3) in [0, 1]: a random pattern of two shades of `colour`, shaded and grained."""
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng, size)
    second = np.clip(colour + rng.uniform(-0.16, 0.16, 3), 0, 1)
    mix = pattern[..., None] * second + (1 - pattern[..., None]) * colour
    shading = 1 + rng.uniform(0.0, 0.15) * (2 * _gradient(rng, size) - 1)
    grain = rng.uniform(0.0, 0.05) * (2 * _cells(rng, size, _GRAIN_CELLS) - 1)
    return np.asarray(np.clip(mix * shading[..., None] + grain[..., None], 0, 1), np.float32)


def _axes(size: int) -> tuple[Field, Field]:
    """x and y of the pixel centres in [0, 1]."""
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return centres[None, :].repeat(size, 0), centres[:, None].repeat(size, 1)


def _rotated(rng: np.random.Generator, size: int) -> tuple[Field, Field]:
    x, y = _axes(size)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def _cells(rng: np.random.Generator, size: int, cells: int) -> Field:
    """Smooth noise in [0, 1]: `cells` x `cells` random values, interpolated."""
    values = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    return np.asarray(values.resize((size, size), Image.Resampling.BICUBIC)).clip(0, 1)


def _plain(rng: np.random.Generator, size: int) -> Field:
    return np.zeros((size, size), np.float32)


def _gradient(rng: np.random.Generator, size: int) -> Field:
    x, _ = _rotated(rng, size)
    return np.asarray((x - x.min()) / (x.max() - x.min()))


def _clouds(rng: np.random.Generator, size: int) -> Field:
    coarse = int(rng.integers(4, 12))
    return 0.6 * _cells(rng, size, coarse) + 0.4 * _cells(rng, size, 4 * coarse)


def _stripes(rng: np.random.Generator, size: int) -> Field:
    x, _ = _rotated(rng, size)
    return _wave(x, rng.uniform(10, 30))


def _checks(rng: np.random.Generator, size: int) -> Field:
    x, y = _rotated(rng, size)
    frequency = rng.uniform(6, 16)
    a, b = _wave(x, frequency), _wave(y, frequency)
    return a * (1 - b) + b * (1 - a)


def _dots(rng: np.random.Generator, size: int) -> Field:
    x, y = _rotated(rng, size)
    frequency = rng.uniform(8, 20)
    waves = np.sin(2 * np.pi * frequency * x) * np.sin(2 * np.pi * frequency * y)
    return np.asarray(np.clip(4 * waves - 1, 0, 1))


def _wave(x: Field, frequency: float) -> Field:
    """A square wave in [0, 1] with soft edges."""
    return np.asarray(np.clip(2.5 * np.sin(2 * np.pi * np.float32(frequency) * x) + 0.5, 0, 1))


_PATTERNS: tuple[Callable[[np.random.Generator, int], Field], ...] = (
    _plain,
    _gradient,
    _clouds,
    _clouds,
    _stripes,
    _checks,
    _dots,
)
