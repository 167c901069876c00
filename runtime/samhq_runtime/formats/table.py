"""The formats: one row each, which is all that the rest of the runtime knows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ConfigError
from ..flags import flag_of
from ..masks.outline import require_polygons
from . import arrays, coco, geojson, label_studio, labelme, yolo
from .results import Catalogue, ImageResult

WriteImage = Callable[[Path, ImageResult, Catalogue], None]
WriteRun = Callable[[Path, Iterable[ImageResult], Catalogue], None]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format. What it writes lies in a folder of its own, named as the format.

    Attributes:
        pattern: the path below that folder of what is written for one image, from its name `a/cat.jpg`: `{image}` is
            that, `{stem}` is `a/cat`. None: nothing is written for one image alone.
        write_image: writes that path, whole or not at all; its parent is there.
        write_run: writes into the folder what is of all images; they come one after the other, in the order of the run.
        polygons: whether rasterio and shapely are needed.
        settings: what of the catalogue the files of single images depend on.
    """

    pattern: str | None = None
    write_image: WriteImage | None = None
    write_run: WriteRun | None = None
    polygons: bool = False
    settings: Callable[[Catalogue], Mapping[str, Any]] = lambda catalogue: {}

    def path_of(self, folder: Path, image: str) -> Path | None:
        """Where the file, or folder, of an image is."""
        stem = PurePosixPath(image).with_suffix("").as_posix()
        return folder / self.pattern.format(image=image, stem=stem) if self.pattern else None


def _simplified(catalogue: Catalogue) -> Mapping[str, Any]:
    return {"simplify": catalogue.simplify}


FORMATS: Mapping[str, Format] = {
    "coco": Format(write_run=coco.write_run),
    "png": Format(pattern="{image}", write_image=arrays.write_pngs),
    "npz": Format(pattern="{image}.npz", write_image=arrays.write_npz),
    "yolo": Format(
        pattern="labels/{stem}.txt",
        write_image=yolo.write_image,
        write_run=yolo.write_run,
        polygons=True,
        settings=lambda catalogue: {"names": list(catalogue.categories), **_simplified(catalogue)},
    ),
    "labelme": Format(pattern="{stem}.json", write_image=labelme.write_image, polygons=True, settings=_simplified),
    "label-studio": Format(write_run=label_studio.write_run, polygons=True),
    "geojson": Format(pattern="{image}.geojson", write_image=geojson.write_image, polygons=True, settings=_simplified),
}


def chosen_formats(text: str | None) -> list[str]:
    """`coco,yolo` -> names of formats, each once; none of None.

    Raises:
        ConfigError: an unknown one.
        BackendUnavailable: what makes polygons is missing here.
    """
    names = list(dict.fromkeys(text.split(","))) if text is not None else []
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"{flag_of('format')}: got {name!r}, expected some of {','.join(FORMATS)}")
    if any(FORMATS[name].polygons for name in names):
        require_polygons()
    return names
