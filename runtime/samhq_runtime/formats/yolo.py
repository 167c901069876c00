"""YOLO's text for segmentation: a line for each object, its class and one ring in fractions of width and height."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..files import write_text
from ..masks.outline import single_ring
from .results import Catalogue, ImageResult


def write_image(path: Path, result: ImageResult, catalogue: Catalogue) -> None:
    """The labels of one image. A line holds one ring: parts and holes are joined to it by cuts without width.

    Empty masks have no ring and no line.
    """
    classes = {name: index for index, name in enumerate(catalogue.categories)}
    lines = []
    for item in result.objects:
        if polygons := item.polygons(catalogue):
            ring = single_ring(polygons) / result.hw[::-1]
            lines.append(" ".join([str(classes[item.category]), *(f"{value:.7g}" for value in ring.ravel())]))
    write_text(path, "".join(f"{line}\n" for line in lines))


def write_run(folder: Path, results: Iterable[ImageResult], catalogue: Catalogue) -> None:
    """`data.yaml`, and `images/`: links to the images, where YOLO's tools look for them beside `labels/`.

    Systems that let nobody make links leave `images/` out: put the images there.
    """
    for result in results:
        _link(folder / "images" / PurePosixPath(result.image), result.file)
    names = "".join(f"  {index}: {json.dumps(name)}\n" for index, name in enumerate(catalogue.categories))
    where = f"path: {json.dumps(str(folder.resolve()))}\n"
    write_text(folder / "data.yaml", f"{where}train: images\nval: images\nnames:\n{names}")


def _link(link: Path, file: Path) -> None:
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(file.resolve())
    except (OSError, NotImplementedError):  # a file of the user's, or Windows without the right to make links
        return
