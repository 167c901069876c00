"""One folder with everything the contenders share: picture, boxes, weights, and the graphs of the peers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from samhq_exporter.architecture import PIXEL_MEAN, PIXEL_STD
from samhq_runtime.bench.sample_image import sample_boxes, sample_image
from samhq_runtime.contract import ModelFrame
from samhq_runtime.frames.geometry import preprocess

PICTURE_HW = (1200, 1800)
PHOTO_HW = (3000, 4000)
BOXES = 64
_SIDE = 1024


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Paths; `folder` also holds the files that are made for the peers."""

    folder: Path
    bundle: Path
    checkpoint: Path
    variant: str
    threads: int

    @property
    def picture(self) -> Path:
        """(1200,1800,3) uint8."""
        return self.folder / "picture.npy"

    @property
    def photo(self) -> Path:
        """(3000,4000,3) uint8."""
        return self.folder / "photo.npy"

    @property
    def input_image(self) -> Path:
        """(1,3,1024,1024) float32, the picture as the encoders take it."""
        return self.folder / "input_image.npy"

    def boxes(self, count: int, hw: tuple[int, int] = PICTURE_HW) -> np.ndarray:
        """(count,4) float32 x0, y0, x1, y1; the first ones are the same for every count."""
        return sample_boxes(BOXES, hw)[:count]

    def write(self) -> None:
        """Draw the pictures and leave the paths for the children."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.photo.exists():
            np.save(self.picture, sample_image(PICTURE_HW))
            np.save(self.input_image, preprocess(np.load(self.picture), ModelFrame(_SIDE), PIXEL_MEAN, PIXEL_STD))
            np.save(self.photo, sample_image(PHOTO_HW))
        content = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        (self.folder / "scene.json").write_text(json.dumps(content))


def read_scene(folder: Path) -> Scene:
    content = json.loads((folder / "scene.json").read_text())
    content |= {name: Path(content[name]) for name in ("folder", "bundle", "checkpoint")}
    return Scene(**content)
