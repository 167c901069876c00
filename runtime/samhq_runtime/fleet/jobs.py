"""What there is to do: a file of JSON lines, each an image and its prompts."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import PromptError
from ..file_kinds import kind_of

RESERVED = ("settings",)  # `settings.json` in the folder of results says what they are of
_DRIVE = re.compile(r"[A-Za-z]:/")  # of Windows
_LOOKED_AT = 1000  # bytes for a NUL, which no JSON text has
_RANKS = {"point_coords": 3, "point_labels": 2, "box": 2}  # with a leading dimension for the objects


@dataclass(frozen=True)
class ImageJob:
    """One image of the folder and its prompts, as `Predictor.predict` takes them.

    Attributes:
        image: path relative to the folder of images, with forward slashes and no `.` in it; names the results too.
        prompts: JSON values for those of `point_coords`, `point_labels`, `box` that are given.
    """

    image: str
    prompts: Mapping[str, Any]

    def arguments(self) -> dict[str, Any]:
        """What `Predictor.predict` takes and checks, in the form with a leading dimension for the objects."""
        return {n: [value] if _rank(value) == _RANKS[n] - 1 and value else value for n, value in self.prompts.items()}


def read_jobs(prompts: Path) -> list[ImageJob]:
    """Every line of a prompts file, such as `{"image": "a/cat.jpg", "box": [[10, 20, 300, 400]]}`.

    Raises:
        PromptError: the file is missing or not UTF-8, a line is not of this form, or an image occurs twice; it says
            which line.
    """
    if not prompts.is_file():
        raise PromptError(f"{prompts}: no such file; expected one JSON object a line, with `image` and prompts")
    jobs: dict[str, ImageJob] = {}
    for number, line in enumerate(_text(prompts).split("\n"), start=1):  # other separators may stand in names
        if not line.strip():
            continue
        job = _job(line, where=f"{prompts}:{number}")
        if job.image in jobs:  # `./cat.jpg` too, whose masks would take the place of those of `cat.jpg`
            raise PromptError(f"{prompts}:{number}: {job.image} occurs twice; put all its prompts on one line")
        jobs[job.image] = job
    if not jobs:
        raise PromptError(f"{prompts}: holds no prompts")
    return list(jobs.values())


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


def _rank(value: object) -> int:
    """How deep its lists are; objects may have different numbers of points, so it is no array."""
    rank = 0
    while isinstance(value, list):
        value, rank = value[0] if value else None, rank + 1
    return rank


def _job(line: str, *, where: str) -> ImageJob:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise PromptError(f"{where}: not JSON ({e}); expected one object on each line") from e
    if not isinstance(content, dict) or not isinstance(content.get("image"), str):
        raise PromptError(
            f'{where}: expected an object with `image`, e.g. {{"image": "cat.jpg", "box": [1, 2, 30, 40]}}'
        )
    image = content.pop("image")
    if "\\" in image or "\0" in image:
        raise PromptError(f"{where}: image {image!r}: expected a path with forward slashes, and without NUL")
    path = PurePosixPath(image)
    if path.is_absolute() or _DRIVE.match(image) or ".." in path.parts or not path.name:
        raise PromptError(f"{where}: image {image!r} lies outside the folder of images")
    if path.as_posix() in RESERVED:
        raise PromptError(f"{where}: image {image!r}: its results would take the place of settings.json; rename it")
    unknown = [name for name in content if name not in _RANKS]
    if unknown or not content:
        raise PromptError(f"{where}: got prompts {sorted(content)}, expected some of {', '.join(_RANKS)}")
    return ImageJob(path.as_posix(), content)
