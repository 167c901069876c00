"""Which image files a folder, a pattern or a list means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from glob import has_magic
from pathlib import Path

from ..errors import ImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_LIST = ".txt"


def image_files(sources: Iterable[Path]) -> list[Path]:
    """The image files of some sources, each once, in the order of the sources and of names in each.

    A source is a folder, with all below it whose names end as images do, and not hidden; a pattern such as
    `photos/*.jpg`; a `.txt` file with a path on each line, from where the list lies; or an image file.

    Raises:
        ImageError: a source that is not there, or without an image.
    """
    found: dict[Path, None] = {}
    for source in sources:
        files = list(_files_of(source))
        if not files:
            raise ImageError(f"{source}: no image in it; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
        found.update(dict.fromkeys(files))
    return list(found)


def _files_of(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield from sorted(path for path in source.rglob("*") if _is_image(path.relative_to(source)) and path.is_file())
    elif source.suffix.lower() == _LIST and source.is_file():
        yield from _listed(source)
    elif not source.exists() and has_magic(str(source)):
        base = next(folder for folder in source.parents if not has_magic(str(folder)))
        pattern = source.relative_to(base).as_posix()
        yield from sorted(path for path in base.glob(pattern) if path.is_file())
    elif not source.exists():
        raise ImageError(f"{source}: no such image, folder or list of images")
    else:
        yield source


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _listed(source: Path) -> Iterator[Path]:
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise ImageError(f"{source}: cannot be read as a list of images ({e}); expected UTF-8, a path a line") from e
    yield from (source.parent / line.strip() for line in lines if line.strip())
