"""The images of a run: a folder, a pattern or a list, and the names they have in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError
from ..frames.image_names import image_file
from ..frames.image_sources import image_files
from .jobs import ImageJob


@dataclass(frozen=True)
class Images:
    """Where images are.

    Attributes:
        folder: names are paths below it.
        chosen: the only images that are meant, by name; None: all of the folder.
    """

    folder: Path
    chosen: Sequence[str] | None = None

    def names(self) -> Sequence[str]:
        """Of all images that are there, in order."""
        if self.chosen is not None:
            return self.chosen
        return [path.relative_to(self.folder).as_posix() for path in image_files([self.folder])]

    def match(self, jobs: Sequence[ImageJob]) -> tuple[list[ImageJob], dict[str, list[str]]]:
        """The jobs whose images are meant; what prompts and images lack of each other, by reason, a line for each.

        Of a folder all are meant, also images that turn out to be missing.

        Raises:
            ImageError: none is.
        """
        if self.chosen is None:
            return list(jobs), {}
        names = {self.folder / name: name for name in self.chosen}
        files = {job.image: image_file(self.folder, job.image) for job in jobs}
        meant = [job for job in jobs if files[job.image] in names]
        if not meant:
            raise ImageError(
                f"no image has prompts: images are called as {self.chosen[0]!r} below {self.folder}, those with "
                f"prompts as {jobs[0].image!r}"
            )
        missing = [image for image, file in files.items() if file not in names]
        asked = set(files.values())
        unasked = [name for file, name in names.items() if file not in asked]
        lines = {"images with prompts that are not among the chosen": missing, "images without prompts": unasked}
        return meant, {reason: images for reason, images in lines.items() if images}


def open_images(source: Path) -> Images:
    """The images of a folder, of a pattern (`photos/*.jpg`), or of a list (`.txt`, a path a line).

    Names are paths below the folder; of patterns and lists, below the nearest folder above them that holds all images.

    Raises:
        ImageError: no such folder, or no image.
    """
    if source.is_dir():
        return Images(source.resolve())
    if source.suffix.lower() != ".txt" and source.exists():
        raise ImageError(f"{source}: one image; expected a folder, a pattern or a list (.txt) with --prompts")
    files = [_absolute(file) for file in image_files([source])]
    for folder in _absolute(source).parents:
        if all(folder in file.parents for file in files):
            return Images(folder, [file.relative_to(folder).as_posix() for file in files])
    raise ImageError(f"{source}: its images are on another drive; put the list there")


def _absolute(path: Path) -> Path:
    """Without `..`, and without following links: names are those that were given."""
    return Path(os.path.normpath(path.absolute()))
