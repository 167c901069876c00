"""What a file of prompts is read into, and what that takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..formats.results import Catalogue
from .jobs import ImageJob


@dataclass(frozen=True)
class PromptSet:
    """What a file of prompts asks for.

    Attributes:
        jobs: in the order of the file, each image once.
        catalogue: categories, and ids of images, of the file.
        left_out: what is not asked for: by reason, a line for each.
    """

    jobs: Sequence[ImageJob]
    catalogue: Catalogue = field(default_factory=Catalogue)
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """How a file of prompts is read.

    Attributes:
        images: names of the images that are there, for files that do not name them; called if needed.
        image_ids: a COCO file whose images and categories the ids of detections are of.
        min_score: detections with a lower score are left out.
    """

    images: Callable[[], Sequence[str]] = list
    image_ids: Path | None = None
    min_score: float = 0.0
