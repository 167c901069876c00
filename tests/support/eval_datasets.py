"""Small datasets with known truth, and a predictor that knows it, for the tests of `samhq eval`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

Masks = NDArray[np.bool_]


def rectangles(*boxes: tuple[int, int, int, int], hw: tuple[int, int] = (60, 80)) -> Masks:
    """(N,H,W) masks of x0, y0, x1, y1 boxes, ends excluded."""
    masks = np.zeros((len(boxes), *hw), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


def numbered_image(masks: Masks) -> NDArray[np.uint8]:
    """(H,W,3) image whose pixels name the object they show, from 1 on, so that a fake can find it again."""
    numbers = (masks * np.arange(1, len(masks) + 1)[:, None, None]).sum(axis=0)
    return np.repeat(numbers[..., None], 3, axis=2).astype(np.uint8)


def runs_of(mask: Masks) -> dict[str, Any]:
    """Compressed run lengths as pycocotools writes them."""
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(runs["size"]), "counts": runs["counts"].decode()}


def write_coco(folder: Path, scenes: Sequence[tuple[NDArray[np.uint8], Masks]]) -> Path:
    """`folder/instances.json` with PNGs beside it: image ids and annotation ids from 1 on."""
    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number, (image, masks) in enumerate(scenes, 1):
        Image.fromarray(image).save(folder / f"{number}.png")
        height, width = image.shape[:2]
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        for mask in masks:
            annotation = {"id": len(annotations) + 1, "image_id": number, "segmentation": runs_of(mask), "iscrowd": 0}
            annotations.append(annotation)
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


class FakePredictor:
    """Finds the numbered object of each prompt; a subclass may spoil the masks or count the calls."""

    predicted_iou = 0.75

    def __init__(self, bundle: object = None, *, providers: Sequence[str] = ("cpu",), threads: int = 0) -> None:
        self.providers = tuple(providers)

    def set_image(self, image: NDArray[np.uint8]) -> None:
        self.numbers = image[..., 0]

    def predict(self, **prompts: Any) -> tuple[NDArray, NDArray, NDArray]:
        numbers = self._by_box(prompts["box"]) if "box" in prompts else self._by_point(prompts["point_coords"])
        masks = np.stack([self.spoil(self.numbers == number) for number in numbers])[:, None]
        return masks, np.full((len(masks), 1), self.predicted_iou, np.float32), np.zeros((len(masks), 1, 4, 4))

    def spoil(self, mask: Masks) -> Masks:
        return mask

    def _by_point(self, points: NDArray) -> list[int]:
        return [int(self.numbers[int(y), int(x)]) for x, y in points[:, 0]]

    def _by_box(self, boxes: NDArray) -> list[int]:
        return [next(n for n in range(1, 256) if _box(self.numbers == n) == tuple(box)) for box in boxes]

    def __enter__(self) -> FakePredictor:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def _box(mask: Masks) -> tuple[int, ...]:
    rows, columns = np.nonzero(mask)
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else ()
