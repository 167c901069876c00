"""What there is to do: an image and its prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ..errors import PromptError
from ..formats.settings import SETTINGS

REPORT = "report"
_RESERVED = (SETTINGS, REPORT)  # `settings.json` in the folder of results says what they are of, the other how it went
RANKS = {"point_coords": 3, "point_labels": 2, "box": 2}  # with a leading dimension for the objects
_DRIVE = re.compile(r"[A-Za-z]:/")  # of Windows
_CATEGORY = "category"


@dataclass(frozen=True)
class ImageJob:
    """One image of the folder and its prompts, as `Predictor.predict` takes them.

    Attributes:
        image: path relative to the folder of images, with forward slashes and no `.` in it; names the results too.
        prompts: JSON values for those of `point_coords`, `point_labels`, `box` that are given.
        objects: what is known of each object, if anything: `category`, `score`, `annotation_id` of `FoundObject`.
    """

    image: str
    prompts: Mapping[str, Any]
    objects: Sequence[Mapping[str, Any]] = ()

    def arguments(self) -> dict[str, Any]:
        """What `Predictor.predict` takes and checks, in the form with a leading dimension for the objects."""
        return {n: [value] if _rank(value) == RANKS[n] - 1 and value else value for n, value in self.prompts.items()}

    @property
    def count(self) -> int:
        """How many objects are asked for."""
        return max((len(value) for value in self.arguments().values() if isinstance(value, list)), default=0)

    def asked(self) -> dict[str, Any]:
        """The job without its image, as JSON values: what a result must answer."""
        known = {"objects": [dict(item) for item in self.objects]} if self.objects else {}
        return {"prompts": dict(self.prompts), **known}


def job_of(content: object, *, where: str) -> ImageJob:
    """A JSON object such as `{"image": "a/cat.jpg", "box": [[10, 20, 300, 400]], "category": ["cat"]}`.

    Raises:
        PromptError: it has another form; the message begins with `where`.
    """
    if not isinstance(content, dict) or not isinstance(content.get("image"), str):
        raise PromptError(
            f'{where}: expected an object with `image`, e.g. {{"image": "cat.jpg", "box": [1, 2, 30, 40]}}'
        )
    prompts = {name: value for name, value in content.items() if name not in ("image", _CATEGORY)}
    image = image_name(content["image"], where=where)
    unknown = [name for name in prompts if name not in RANKS]
    if unknown or not prompts:
        raise PromptError(f"{where}: got prompts {sorted(prompts)}, expected some of {', '.join(RANKS)}")
    job = ImageJob(image, prompts)
    if _CATEGORY not in content:
        return job
    return replace(job, objects=_categories(content[_CATEGORY], job, where=where))


def image_name(image: str, *, where: str) -> str:
    """The name of an image without `.` in it; PromptError if it lies outside the folder or names no file."""
    if "\\" in image or "\0" in image:
        raise PromptError(f"{where}: image {image!r}: expected a path with forward slashes, and without NUL")
    path = PurePosixPath(image)
    if path.is_absolute() or _DRIVE.match(image) or ".." in path.parts or not path.name:
        raise PromptError(f"{where}: image {image!r} lies outside the folder of images")
    if path.as_posix() in _RESERVED:
        raise PromptError(f"{where}: image {image!r}: its results would take the place of {image}.json; rename it")
    return path.as_posix()


def _categories(given: object, job: ImageJob, *, where: str) -> list[dict[str, str]]:
    """A category for each object: a list of names, or one name for all."""
    names = [given] * job.count if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise PromptError(f"{where}: {_CATEGORY}: expected a name, or a list of names")
    if len(names) != job.count:
        raise PromptError(
            f"{where}: {_CATEGORY}: got {len(names)} names for {job.count} objects; expected one for each"
        )
    return [{_CATEGORY: name} for name in names]


def _rank(value: object) -> int:
    """How deep its lists are; objects may have different numbers of points, so it is no array."""
    rank = 0
    while isinstance(value, list):
        value, rank = value[0] if value else None, rank + 1
    return rank
