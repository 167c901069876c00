"""Small datasets with known truth, and a predictor that knows it, for the tests of `samhq eval`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from samhq_runtime.evaluation.measure import Setting, measure_image
from samhq_runtime.evaluation.open import open_dataset

Masks = NDArray[np.bool_]
SCENES = 4


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


MASKS = rectangles((5, 5, 30, 40), (50, 10, 70, 30))
SCENE = (numbered_image(MASKS), MASKS)
MADE_FROM_MASKS = Setting()


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


def small_dataset(folder: Path) -> Path:
    """SCENES equal images of two objects: 36 x 30 pixels, COCO's medium, and 4 x 4."""
    masks = rectangles((5, 5, 41, 35), (50, 10, 54, 14))
    return write_coco(folder, [(numbered_image(masks), masks)] * SCENES)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


class FakePredictor:
    """Finds the numbered object of each prompt; a subclass may spoil the masks or count the calls."""

    predicted_iou = 0.75

    def __init__(self, bundle: object = None, *, providers: Sequence[str] = ("cpu",), threads: int = 0) -> None:
        self.providers = tuple(providers)

    def set_image(self, image: NDArray[np.uint8]) -> None:
        self.numbers = image[..., 0]

    def predict_batch(self, **prompts: Any) -> tuple[NDArray, NDArray, NDArray]:
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


class LeftHalves(FakePredictor):
    """Under the provider `half`, the left half of every object; counts its images, and may stop after some."""

    images = 0
    stop_after = 10**9

    def set_image(self, image: NDArray[np.uint8]) -> None:
        counts = type(self)
        if counts.images == counts.stop_after:
            raise KeyboardInterrupt
        counts.images += 1
        super().set_image(image)

    def spoil(self, mask: Masks) -> Masks:
        if self.providers == ("cpu",):
            return mask
        columns = np.flatnonzero(mask.any(axis=0))
        kept = mask.copy()
        kept[:, columns[len(columns) // 2] :] = False
        return kept


def left_halves(monkeypatch: pytest.MonkeyPatch) -> type[LeftHalves]:
    """Puts LeftHalves in the place of the Predictor, with counters of its own."""

    class Counting(LeftHalves):
        pass

    monkeypatch.setattr("samhq_runtime.evaluation.subjects.Predictor", Counting)
    return Counting


def read_all(
    path: Path, setting: Setting = MADE_FROM_MASKS, **options: Any
) -> tuple[list[str], list[tuple[str, str | None, str]], list[float]]:
    """Image names, what was left out, and the IoU of every object by a predictor that knows the truth."""
    dataset = open_dataset(path, **options)
    records = [measure_image(FakePredictor(), dataset, name, setting) for name in dataset.names]  # type: ignore[arg-type]
    skips = [*dataset.left_out, *(skip for record in records for skip in record.skipped)]
    ious = [score.iou for record in records for score in record.objects]
    return list(dataset.names), [(skip.image, skip.target, skip.reason) for skip in skips], ious


def _box(mask: Masks) -> tuple[int, ...]:
    rows, columns = np.nonzero(mask)
    return (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else ()
