"""COCO's instance annotations: one file for all images, masks as run lengths, which keep holes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from ..files import write_whole
from .results import Catalogue, FoundObject, ImageResult, bbox_of

FILE = "annotations.json"


def write_run(folder: Path, results: Iterable[ImageResult], catalogue: Catalogue) -> None:
    """`annotations.json`. Annotations are written as they come: a run of any length needs the memory of one image."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            _write(file, results, catalogue)

    write_whole(folder / FILE, write)


def _write(file: TextIO, results: Iterable[ImageResult], catalogue: Catalogue) -> None:
    images: list[dict[str, Any]] = []
    file.write('{"annotations": [')
    for number, annotation in enumerate(_annotations(results, catalogue, images)):
        file.write((",\n" if number else "\n") + json.dumps(annotation))
    categories = [{"id": key, "name": name} for name, key in catalogue.categories.items()]
    rest = json.dumps({"images": images, "categories": categories})
    file.write(f"\n], {rest[1:]}\n")


def _annotations(
    results: Iterable[ImageResult], catalogue: Catalogue, images: list[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Every object; what is told of the images is put into `images` on the way."""
    taken = set(catalogue.image_ids.values())
    free = (number for number in count(1) if number not in taken)
    numbers = count(1)
    for result in results:
        key = catalogue.image_ids[result.image] if result.image in catalogue.image_ids else next(free)
        height, width = result.hw
        images.append({"id": key, "file_name": result.image, "width": width, "height": height})
        for item in result.objects:
            own = item.annotation_id
            yield {"id": next(numbers) if own is None else own, "image_id": key, **_described(item, catalogue)}


def _described(item: FoundObject, catalogue: Catalogue) -> dict[str, Any]:
    mask = item.mask()
    return {
        "category_id": catalogue.categories[item.category],
        "segmentation": item.rle,
        "area": int(mask.sum()),
        "bbox": bbox_of(mask),
        "iscrowd": 0,
        "score": item.predicted_iou if item.score is None else item.score,
        "predicted_iou": item.predicted_iou,
    }
