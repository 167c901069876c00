"""Pictures of the objects worth a look: the place on the outline where the mask is most wrong, magnified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..frames.image_files import write_png
from ..masks.box import extent
from ..predictor import Predictor
from .dataset import Dataset, Unusable
from .measure import ImageRecord, ObjectScore, Setting, predict_masks
from .metrics import Mask, boundary, boundary_radius
from .subjects import Subject
from .truth import read_truth

_TILE = 288  # pixels
_CAPTION = 16
_LEAST_WINDOW = 32
_TRUTH = (40, 230, 60)
_PREDICTED = (255, 60, 40)
_FRAME = (255, 220, 0)

Pixels = NDArray[np.uint8]
Window = tuple[slice, slice]


@dataclass
class Picture:
    """The object that `file` is to show, the scores of every subject, and the tiles drawn so far."""

    file: str
    image: str
    target: str
    scores: Sequence[ObjectScore]
    window: Window | None = None
    tiles: list[Pixels] = field(default_factory=list)


def draw_pictures(
    subjects: Sequence[Subject],
    measured: Sequence[Sequence[ImageRecord]],
    dataset: Dataset,
    folder: Path,
    *,
    setting: Setting,
    threads: int,
    count: int,
) -> None:
    """Write `worst-NN.png` and, of several subjects, `changed-NN.png`; older pictures of those names go."""
    for old in find_pictures(folder):
        old.unlink()
    pictures = choose_pictures(measured, count)
    for index, subject in enumerate(subjects):
        if pictures:
            with subject.open(threads) as predictor:
                for picture in pictures:
                    _add_tiles(picture, index, subject.name, predictor, dataset, setting)
    for picture in pictures:
        write_png(folder / picture.file, np.concatenate(picture.tiles, axis=1))


def find_pictures(folder: Path) -> list[Path]:
    """The pictures that an evaluation wrote into `folder`."""
    return sorted(path for kind in ("changed", "worst") for path in folder.glob(f"{kind}-[0-9][0-9].png"))


def choose_pictures(measured: Sequence[Sequence[ImageRecord]], count: int) -> list[Picture]:
    """The lowest boundary IoUs of the first subject, and the largest differences of the others from it."""
    by_object = [
        {(record.image, score.target): score for record in records for score in record.objects} for records in measured
    ]
    common = [key for key in by_object[0] if all(key in scores for scores in by_object)]
    worst = sorted(common, key=lambda key: by_object[0][key].boundary_iou)[:count]
    chosen = [("worst", worst)]
    if len(measured) > 1:
        gap = {
            key: max(abs(scores[key].boundary_iou - by_object[0][key].boundary_iou) for scores in by_object)
            for key in common
        }
        chosen.append(("changed", sorted((key for key in common if gap[key] > 0), key=lambda key: -gap[key])[:count]))
    return [
        Picture(f"{kind}-{number:02}.png", *key, scores=[scores[key] for scores in by_object])
        for kind, keys in chosen
        for number, key in enumerate(keys, 1)
    ]


def _add_tiles(
    picture: Picture, index: int, name: str, predictor: Predictor, dataset: Dataset, setting: Setting
) -> None:
    try:
        sample = dataset.read(picture.image)
        known = read_truth(sample, picture.target, setting.prompts)
    except Unusable as e:
        raise DatasetError(
            f"{dataset.path}: {picture.image}: {e.reason} ({e.detail or picture.target}), but it was measured; "
            "the dataset has changed since: give the same command again"
        ) from e
    predictor.set_image(sample.image)
    predicted, truth = predict_masks(predictor, [known], setting)[0][0], known.mask
    if picture.window is None:
        picture.window = zoom_window(predicted, truth)
        picture.tiles.append(_overview(sample.image, truth, picture))
    score = picture.scores[index]
    tile = _tile(sample.image[picture.window], truth[picture.window], predicted[picture.window])
    picture.tiles.append(_captioned(tile, f"{name}: IoU {score.iou:.3f}, boundary {score.boundary_iou:.3f}"))


def zoom_window(predicted: Mask, truth: Mask) -> Window:
    """A square, a few boundary widths wide, where the two boundary regions differ in the most pixels."""
    height, width = truth.shape
    radius = boundary_radius((height, width))
    side = min(max(_LEAST_WINDOW, 6 * radius), height, width)
    wrong = boundary(predicted, radius) ^ boundary(truth, radius)
    sums = np.zeros((height + 1, width + 1), dtype=np.int64)
    sums[1:, 1:] = wrong.cumsum(axis=0).cumsum(axis=1)
    inside = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(int(top), int(top) + side), slice(int(left), int(left) + side)


def _overview(image: Pixels, truth: Mask, picture: Picture) -> Pixels:
    """The object with some room around it, its true outline, and a frame where the zoom is."""
    assert picture.window is not None
    marked = image.copy()
    marked[boundary(truth, 1)] = _TRUTH
    rows, columns = picture.window
    frame = np.zeros_like(truth)
    frame[rows, columns] = True
    marked[boundary(frame, max(1, min(truth.shape) // 150))] = _FRAME
    return _captioned(_fit(marked[_square(truth | frame)]), f"{picture.image}: {picture.target}")


def _square(mask: Mask) -> Window:
    """The extent of a mask, made as square as the image lets it be, with a margin of an eighth."""
    spans = extent(mask)
    half = max(span.stop - span.start for span in spans) * 5 // 8
    middles = [(span.start + span.stop) // 2 for span in spans]
    rows, columns = (
        slice(max(0, middle - half), min(size, middle + half + 1))
        for middle, size in zip(middles, mask.shape, strict=True)
    )
    return rows, columns


def _tile(image: Pixels, truth: Mask, predicted: Mask) -> Pixels:
    """The predicted mask tinted, both outlines drawn after magnifying."""
    tile = _fit(image).astype(np.float32)
    truth, predicted = (_fit(mask.astype(np.uint8)) > 0 for mask in (truth, predicted))
    tile[predicted] = 0.65 * tile[predicted] + 0.35 * np.array(_PREDICTED)
    tile[boundary(predicted, 1)] = _PREDICTED
    tile[boundary(truth, 2)] = _TRUTH
    return tile.astype(np.uint8)


def _fit(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h,w,...) magnified or shrunk so that the longer side is `_TILE`, the rest of the square dark; sharp pixels."""
    height, width = pixels.shape[:2]
    scale = _TILE / max(height, width)
    rows = np.minimum((np.arange(round(height * scale)) / scale).astype(int), height - 1)
    columns = np.minimum((np.arange(round(width * scale)) / scale).astype(int), width - 1)
    tile = np.zeros((_TILE, _TILE, *pixels.shape[2:]), dtype=np.uint8)
    tile[: len(rows), : len(columns)] = pixels[rows][:, columns]
    return tile


def _captioned(tile: Pixels, text: str) -> Pixels:
    from PIL import Image, ImageDraw

    caption = Image.new("RGB", (_TILE, _CAPTION), (24, 24, 24))
    ImageDraw.Draw(caption).text((3, 2), text, fill=(235, 235, 235))
    return np.concatenate([np.asarray(caption), tile])
