"""Calibration: the images activations are measured on, and the int8 scale that follows from measured values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samhq_runtime.errors import ConfigError
from samhq_runtime.frames.image_files import read_image
from samhq_runtime.frames.image_sources import IMAGE_SUFFIXES

from ..scenes.drawing import draw_scene
from ..scenes.sample import SCENE_SIZE, central_boxes

MOST_IMAGES = 128
_SCENES = 2
_SCENE_SEED = 2_000_100  # outside the demo model's training and held-out seeds


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
        return CalibrationSet("drawn scenes", [partial(_scene, _SCENE_SEED + i) for i in range(_SCENES)])
    files = [file for path in paths for file in _files(path)]
    chosen = [files[i * len(files) // MOST_IMAGES] for i in range(MOST_IMAGES)] if len(files) > MOST_IMAGES else files
    return CalibrationSet(f"{len(chosen)} of {len(files)} given images", [partial(_read, file) for file in chosen])


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"--calibration {path}: no such file or folder")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ConfigError(f"--calibration {path}: no images in it; expected {', '.join(sorted(IMAGE_SUFFIXES))}")
    return files


def _read(path: Path) -> CalibrationImage:
    image = read_image(path)
    return CalibrationImage(image, central_boxes(image))


def _scene(seed: int) -> CalibrationImage:
    scene = draw_scene(seed, SCENE_SIZE)
    return CalibrationImage(scene.image, scene.boxes)
