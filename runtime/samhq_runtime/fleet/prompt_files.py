"""Files of prompts: lines of JSON, one JSON for all images, COCO's annotations or detections."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import PromptError
from ..file_kinds import kind_of
from ..formats.results import CATEGORY, Catalogue
from .coco_prompts import is_annotations, is_detections, read_annotations, read_detections
from .jobs import ImageJob, job_of
from .prompt_set import PromptOptions, PromptSet

_LINES = object()  # what no JSON is, `null` neither
_LOOKED_AT = 1000  # bytes for a NUL, which no JSON text has
_FORMS = (
    "a list of objects with `image`, an object of images and their boxes or points, a list of boxes or points for "
    "every image, or COCO's annotations or detections"
)


def read_prompts(path: Path, options: PromptOptions) -> PromptSet:
    """The jobs of a file. A name that ends in `.json` is one JSON, whatever its form; others have one on each line.

    Raises:
        PromptError, DatasetError: the file is missing or not UTF-8, has another form, or names an image twice; it says
            where.
    """
    if not path.is_file():
        raise PromptError(f"{path}: no such file; expected one JSON object a line, with `image` and prompts")
    text = _text(path)
    content = _whole(path, text) if path.suffix.lower() == ".json" else _LINES
    if content is _LINES:
        return _named(path, [(f"{path}:{n}", _json(line, f"{path}:{n}")) for n, line in _lines(text)])
    return _of_document(path, content, options)


def read_jobs(path: Path) -> list[ImageJob]:
    """The jobs of a file that names its images; see `read_prompts`."""
    return list(read_prompts(path, PromptOptions()).jobs)


def _of_document(path: Path, content: object, options: PromptOptions) -> PromptSet:
    if is_annotations(content):
        return read_annotations(path, content)
    if is_detections(content):
        return read_detections(path, content, options)
    if isinstance(content, dict) and isinstance(content.get("image"), str):
        return _named(path, [(str(path), content)])
    if isinstance(content, dict):
        return _named(path, [(f"{path}: {name}", _bare(name, value)) for name, value in content.items()])
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        return _named(path, [(f"{path}: [{number}]", entry) for number, entry in enumerate(content)])
    if isinstance(content, list) and content and all(isinstance(entry, list) for entry in content):
        return _named(path, [(f"{path}: {name}", _bare(name, content)) for name in options.images()])
    raise PromptError(f"{path}: expected {_FORMS}")


def _named(path: Path, entries: Sequence[tuple[str, object]]) -> PromptSet:
    """Jobs of objects with `image`, each with the place it stands at."""
    jobs: dict[str, ImageJob] = {}
    for where, entry in entries:
        job = job_of(entry, where=where)
        if job.image in jobs:  # `./cat.jpg` too, whose masks would take the place of those of `cat.jpg`
            raise PromptError(f"{where}: {job.image} occurs twice; put all its prompts in one place")
        jobs[job.image] = job
    if not jobs:
        raise PromptError(f"{path}: holds no prompts")
    return PromptSet(list(jobs.values()), Catalogue(_categories(jobs.values())))


def _categories(jobs: Iterable[ImageJob]) -> dict[str, int]:
    """Ids of the categories that are named, in the order of their names; `object` of what has none."""
    names = {item["category"] for job in jobs for item in job.objects}
    unnamed = [CATEGORY] if not names or any(not job.objects for job in jobs) else []
    return {name: number for number, name in enumerate(dict.fromkeys([*unnamed, *sorted(names)]), 1)}


def _bare(image: str, value: object) -> dict[str, Any]:
    """Boxes (4 numbers) or points (2 numbers), each for an object of its own; or prompts by their names."""
    if isinstance(value, dict):
        return {**value, "image": image}
    if isinstance(value, list) and value and all(isinstance(item, list) and len(item) == 2 for item in value):
        return {"image": image, "point_coords": [[item] for item in value], "point_labels": [[1]] * len(value)}
    return {"image": image, "box": value}


def _whole(path: Path, text: str) -> object:
    """The JSON of a file; `_LINES` if it is several objects, on lines."""
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _once(path, pairs))
    except json.JSONDecodeError as e:
        if e.msg == "Extra data" and text.lstrip().startswith("{"):
            return _LINES
        raise PromptError(f"{path}:{e.lineno}: not JSON ({e}); expected {_FORMS}") from e
    except RecursionError as e:
        raise PromptError(f"{path}: not JSON that can be read ({e})") from e


def _once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise PromptError(f"{path}: {name!r} occurs twice; put all its prompts in one place")
        content[name] = value
    return content


def _lines(text: str) -> list[tuple[int, str]]:
    lines = enumerate(text.split("\n"), start=1)  # other separators may stand in names
    return [(number, line) for number, line in lines if line.strip()]


def _json(line: str, where: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as e:
        raise PromptError(f"{where}: not JSON ({e}); expected one object on each line") from e


def _text(prompts: Path) -> str:
    """The file as text; a byte order mark, which some editors write, is no part of it."""
    content = prompts.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:_LOOKED_AT]:
        raise PromptError(f"{prompts}: UTF-16 text, as PowerShell's > writes; expected UTF-8, save it again as that")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        where = f"{prompts}:{content.count(10, 0, e.start) + 1}"
        raise PromptError(f"{where}: {kind_of(prompts) or f'not UTF-8 ({e.reason})'}; save it again as UTF-8") from e
