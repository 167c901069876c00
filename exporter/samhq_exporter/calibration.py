"""Calibration: the images activations are measured on, and the int8 scale that follows from measured values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samhq_runtime.errors import ConfigError
from samhq_runtime.image_io import read_image

from .demo.scenes import draw_scene
from .precision import CLIPPING_RULES
from .preview import SCENE_SIZE, box_of, central_boxes

MOST_IMAGES = 128
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_SCENES = 2
_SCENE_SEED = 2_000_100  # outside the demo model's training and held-out seeds
_INT8_LEVELS = 127
_PERCENTILE = 99.99
_BINS = 2048
_SHARES = np.linspace(0.2, 1.0, 81)  # of the largest value: the clipping points that are tried

Values = NDArray[np.float32]


@dataclass(frozen=True)
class CalibrationImage:
    """`image` (H,W,3) uint8 and the `boxes` (B,4) it is prompted with, in its pixels."""

    image: NDArray[np.uint8]
    boxes: NDArray[Any]


@dataclass(frozen=True)
class CalibrationSet:
    """What is measured on; `source` is for the manifest. Images are read one at a time."""

    source: str
    images: Sequence[Callable[[], CalibrationImage]]


def calibration_set(paths: Sequence[Path]) -> CalibrationSet:
    """Images and folders of images, or, without any, drawn scenes.

    Raises:
        ConfigError: a path that does not exist, or a folder without images.
    """
    if not paths:
        scenes = [lambda seed=_SCENE_SEED + i: _scene(seed) for i in range(_SCENES)]
        return CalibrationSet("drawn scenes", scenes)
    files = [file for path in paths for file in _files(path)]
    chosen = [files[i * len(files) // MOST_IMAGES] for i in range(MOST_IMAGES)] if len(files) > MOST_IMAGES else files
    return CalibrationSet(f"{len(chosen)} of {len(files)} given images", [lambda f=f: _read(f) for f in chosen])  # type: ignore[misc]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"--calibration {path}: no such file or folder")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise ConfigError(f"--calibration {path}: no images in it; expected {', '.join(sorted(_SUFFIXES))}")
    return files


def _read(path: Path) -> CalibrationImage:
    image = read_image(path)
    return CalibrationImage(image, central_boxes(image))


def _scene(seed: int) -> CalibrationImage:
    scene = draw_scene(seed, SCENE_SIZE)
    return CalibrationImage(scene.image, np.array([box_of(mask) for mask in scene.masks]))


def minmax(magnitudes: Values, largest: float) -> float:
    """Nothing is clipped."""
    return largest


def percentile(magnitudes: Values, largest: float) -> float:
    """One value in ten thousand is clipped."""
    return float(np.percentile(magnitudes, _PERCENTILE))


def mean_square(magnitudes: Values, largest: float) -> float:
    """The clipping point with the smallest mean square of rounding and clipping errors."""
    errors = [float(np.mean((magnitudes - _rounded(magnitudes, share * largest)) ** 2)) for share in _SHARES]
    return float(_SHARES[int(np.argmin(errors))]) * largest


def entropy(magnitudes: Values, largest: float) -> float:
    """The clipping point whose 128-level histogram is closest, in relative entropy, to the 2048-bin one."""
    counts = np.histogram(magnitudes, bins=_BINS, range=(0.0, largest))[0].astype(np.float64)
    ends = range(_INT8_LEVELS + 1, _BINS + 1, 16)
    best = min(ends, key=lambda end: _divergence(counts, end))
    return largest * best / _BINS


# From the magnitudes (n,) of an activation, and the largest of all, to the one that becomes 127.
CLIPPING = dict(zip(CLIPPING_RULES, (minmax, percentile, mean_square, entropy), strict=True))


def int8_scale(magnitudes: Values, largest: float, rule: str) -> float:
    """The symmetric per-tensor scale; positive even for an activation that is always zero."""
    clip = CLIPPING[rule](magnitudes, largest) if largest > 0 else 0.0
    return float(np.float32(max(clip, 1e-30) / _INT8_LEVELS))


def _rounded(magnitudes: Values, clip: float) -> Values:
    scale = np.float32(clip / _INT8_LEVELS)
    return np.minimum(np.round(magnitudes / scale), _INT8_LEVELS) * scale


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    """Relative entropy of the first `end` bins, what is beyond added to the last one, to their 128-level version."""
    kept = counts[:end].copy()
    occupied = kept > 0
    levels = np.arange(end) * (_INT8_LEVELS + 1) // end
    mass, members = (np.bincount(levels, weights, _INT8_LEVELS + 1) for weights in (kept, occupied.astype(float)))
    coarse = np.where(occupied, (mass / np.maximum(members, 1))[levels], 0.0)
    kept[-1] += counts[end:].sum()
    shared = (kept > 0) & (coarse > 0)
    missing = kept[~shared].sum() / kept.sum()
    p, q = kept[shared] / kept.sum(), coarse[shared] / coarse.sum()
    return float((p * np.log(p / q)).sum() + missing * np.log(_BINS))
