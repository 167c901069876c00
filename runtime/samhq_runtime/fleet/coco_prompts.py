"""COCO files as prompts: boxes of annotations, or of detections, with the ids that results keep."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import PromptError
from ..formats.coco_tables import Entry, box_of_bbox, entries_of, image_table, is_crowd, read_json, unique
from ..formats.results import CATEGORY, Catalogue
from .jobs import ImageJob, image_name
from .prompt_set import PromptOptions, PromptSet

_ANNOTATIONS, _DETECTIONS = "annotations", "detections"


def is_annotations(content: object) -> bool:
    return isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" in content


def is_detections(content: object) -> bool:
    return isinstance(content, list) and bool(content) and isinstance(content[0], dict) and "image_id" in content[0]


def read_annotations(path: Path, content: object) -> PromptSet:
    """The boxes of an annotation file; results keep the ids of its images, categories and annotations.

    Raises:
        DatasetError, PromptError: a table of it is missing or malformed, an image occurs twice or has an unusable name.
    """
    names = _image_names(path, content)
    annotations = entries_of(path, content, _ANNOTATIONS, ("id", "image_id"))
    unique(path, "annotation id", annotations, "id")
    return _prompts(_ANNOTATIONS, names, annotations, _category_names(path, content, annotations), 0.0)


def read_detections(path: Path, content: object, options: PromptOptions) -> PromptSet:
    """The boxes of a list of detections, `[{"image_id": 42, "category_id": 1, "bbox": [...], "score": 0.9}, ...]`.

    Ids of images are those of `options.image_ids`; without it, numbers or words in the names of the images.

    Raises:
        DatasetError, PromptError: as `read_annotations`.
    """
    detections = entries_of(path, {_DETECTIONS: content}, _DETECTIONS, ("image_id", "bbox"))
    if options.image_ids is not None:
        tables = read_json(options.image_ids)
        names = _image_names(options.image_ids, tables)
        categories = _category_names(options.image_ids, tables, detections)
    else:
        names = _by_stem(path, options.images(), {str(entry["image_id"]) for entry in detections})
        categories = _category_names(path, {}, detections)
    return _prompts(_DETECTIONS, names, detections, categories, options.min_score)


def _prompts(
    what: str, names: Mapping[str, str], entries: Sequence[Entry], categories: Mapping[str, str], min_score: float
) -> PromptSet:
    """A job for every image, in the order of the images; those without an entry have no objects."""
    boxes: dict[str, list[list[float]]] = {image: [] for image in names.values()}
    objects: dict[str, list[Mapping[str, Any]]] = {image: [] for image in names.values()}
    left_out: dict[str, list[str]] = defaultdict(list)
    keep_ids = what == _ANNOTATIONS and all(type(entry["id"]) is int for entry in entries)
    for number, entry in enumerate(entries):
        try:
            image, box = _usable(entry, names, min_score)
        except _LeftOut as e:
            label = f"{what.removesuffix('s')} {entry.get('id', number)}:"
            left_out[f"{what}: {e.reason}"].append(f"{label} {e.detail}")
            continue
        boxes[image].append(box)
        objects[image].append(_known(entry, categories, keep_id=keep_ids))
    jobs = [ImageJob(image, {"box": boxes[image]}, objects[image]) for image in boxes]
    image_ids = {image: int(key) for key, image in names.items()} if all(map(str.isdecimal, names)) else {}
    return PromptSet(jobs, Catalogue(_ids(categories), image_ids), left_out)


class _LeftOut(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def _usable(entry: Entry, names: Mapping[str, str], min_score: float) -> tuple[str, list[float]]:
    """The image of an entry, and its box."""
    image, score = names.get(str(entry["image_id"])), entry.get("score")
    if image is None:
        raise _LeftOut("an unknown image", f"image id {entry['image_id']}")
    if is_crowd(entry.get("iscrowd")):
        raise _LeftOut("a crowd region", "it outlines a group, not an object")
    if isinstance(score, (int, float)) and score < min_score:
        raise _LeftOut("below --min-score", f"score {score:g}")
    try:
        return image, box_of_bbox(entry.get("bbox"))
    except ValueError as e:
        raise _LeftOut("an unusable box", str(e)) from e


def _known(entry: Entry, categories: Mapping[str, str], *, keep_id: bool) -> dict[str, Any]:
    known: dict[str, Any] = {"category": categories[str(entry.get("category_id"))]}
    if isinstance(entry.get("score"), (int, float)):
        known["score"] = entry["score"]
    if keep_id:
        known["annotation_id"] = entry["id"]
    return known


def _image_names(path: Path, content: object) -> dict[str, str]:
    """Names by the text of their ids; backslashes, as Windows writes them, become slashes."""
    images = image_table(path, content)
    if not images:
        raise PromptError(f"{path}: no images in it")
    by_id = unique(path, "image id", images, "id")
    where = f"{path}: images"
    names = {key: image_name(entry["file_name"].replace("\\", "/"), where=where) for key, entry in by_id.items()}
    unique(path, "image", [{"name": name} for name in names.values()], "name")
    return names


def _category_names(path: Path, content: object, entries: Sequence[Entry]) -> dict[str, str]:
    """Names by the text of their ids, those of the file first; the id itself where the file does not name it."""
    table = content.get("categories") if isinstance(content, dict) else None
    named = [entry for entry in table if isinstance(entry, dict)] if isinstance(table, list) else []
    names = {str(entry["id"]): str(entry["name"]) for entry in named if "id" in entry and "name" in entry}
    twice = sorted(name for name, count in Counter(names.values()).items() if count > 1)
    if twice:
        raise PromptError(f"{path}: category {twice[0]!r} occurs twice; rename one of them")
    used = dict.fromkeys(str(entry.get("category_id")) for entry in entries)
    return {**names, **{key: CATEGORY if key == "None" else key for key in used if key not in names}}


def _ids(categories: Mapping[str, str]) -> dict[str, int]:
    """The ids of the file where all of them are numbers, else numbers from 1."""
    if all(key.isdecimal() for key in categories):
        return {name: int(key) for key, name in sorted(categories.items(), key=lambda item: int(item[0]))}
    return {name: number for number, name in enumerate(categories.values(), 1)}


def _by_stem(path: Path, images: Iterable[str], ids: set[str]) -> dict[str, str]:
    """Names of images by the id that their file's name is: `42` is of `42.jpg` and `000000000042.jpg`."""
    names: dict[str, str] = {}
    for image in images:
        stem = PurePosixPath(image).stem
        key = stem if stem in ids else str(int(stem)) if stem.isdecimal() else stem
        if key in ids and names.setdefault(key, image) != image:
            raise PromptError(
                f"{path}: image id {key} may be {names[key]} or {image}; give --image-ids with their COCO file"
            )
    if not names:
        some = min(ids)
        raise PromptError(
            f"{path}: no image is called as its image ids, such as {some}; give --image-ids with their COCO file"
        )
    return names
