"""What is written of a run in the formats that were asked for, and what of it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import Array
from ..errors import ConfigError
from ..files import sweep
from ..flags import flag_of
from ..frames.image_files import write_png
from ..masks.overlay import draw_overlay
from .results import Catalogue, ImageResult
from .settings import SETTINGS, require_settings
from .table import FORMATS, WriteImage


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files of a run beside its own.

    Attributes:
        folder: has a folder for each format.
        formats: keys of `FORMATS`.
        overlay: folder of pictures, the masks drawn over each image; or None.
        catalogue: what the images share.
    """

    folder: Path
    formats: Sequence[str] = ()
    overlay: Path | None = None
    catalogue: Catalogue = field(default_factory=Catalogue)

    def require_settings(self) -> None:
        """ConfigError if the folder has files of another catalogue, or cannot be written."""
        for name in self.formats:
            if settings := FORMATS[name].settings(self.catalogue):
                require_settings(self.folder, settings, name=f"{name}.{SETTINGS}")

    def are_there(self, image: str) -> bool:
        """Whether all that is written of one image alone is."""
        paths = [path for path, _ in self._files(image)]
        return all(path.exists() for path in [*paths, *self._pictures(image)])

    def write_image(
        self,
        result: ImageResult,
        read: Callable[[], NDArray[np.uint8]],
        boxes: Array | None = None,
        *,
        again: bool = False,
    ) -> None:
        """Write what is missing of one image, or all of it `again`.

        Args:
            read: gives the image (H,W,3), for the picture.
            boxes: (B,4), drawn into the picture.
        """
        for path, write in self._files(result.image):
            if again or not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path, result, self.catalogue)
        for path in self._pictures(result.image):
            if again or not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                largest_first = sorted(result.objects, key=lambda item: -item.area())
                write_png(path, draw_overlay(read(), (item.mask() for item in largest_first), boxes))

    def write_run(self, results: Callable[[], Iterable[ImageResult]]) -> None:
        """Write what is of all images; ConfigError if it cannot be written.

        Args:
            results: called for each format; gives the images in the order of the run.
        """
        for name in self.formats:
            write = FORMATS[name].write_run
            try:
                if write is not None:
                    (self.folder / name).mkdir(parents=True, exist_ok=True)
                    write(self.folder / name, results(), self.catalogue)
            except OSError as e:
                raise ConfigError(
                    f"{self.folder / name}: cannot be written ({e.strerror or e}); what was found is kept, and the "
                    "same command goes on"
                ) from e

    def require_own_files(self, images: Iterable[str]) -> None:
        """ConfigError if two images would have the same file, as `a.jpg` and `a.png` in YOLO's format."""
        taken: dict[Path, str] = {}
        for image in images:
            for path, _ in self._files(image):
                if taken.setdefault(path, image) != image:
                    raise ConfigError(
                        f"{flag_of('format')}: {taken[path]} and {image} would both be {path}; rename one of them"
                    )

    def sweep(self) -> None:
        """Remove what killed processes left half-written."""
        for folder in filter(None, (self.folder, self.overlay)):
            sweep(folder)

    def _files(self, image: str) -> list[tuple[Path, WriteImage]]:
        rows = [(self.folder / name, FORMATS[name]) for name in self.formats]
        paths = [(row.path_of(folder, image), row.write_image) for folder, row in rows]
        return [(path, write) for path, write in paths if path is not None and write is not None]

    def _pictures(self, image: str) -> list[Path]:
        return [self.overlay / f"{image}.png"] if self.overlay else []
