"""Names of images in annotation files -> files: names come from other systems, servers and disks."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

_SOME = 100  # images that a folder is judged by


def image_file(folder: Path, name: str, *, last_part_alone: bool = False) -> Path:
    """The file of an annotated image: the first that is there, else `folder / name`.

    Looked for are the name as it stands; with `/` for a backslash; composed and decomposed Unicode (files of macOS);
    and, if `last_part_alone`, its last part in `folder`.
    """
    return next((path for path in _candidates(folder, name, last_part_alone) if is_file(path)), folder / name)


def unique_last_parts(names: Iterable[str]) -> set[str]:
    """The names whose last part no other has."""
    names = list(names)
    counts = Counter(_last_part(name) for name in names)
    return {name for name in names if counts[_last_part(name)] == 1}


def best_folder(folders: Sequence[Path], names: Sequence[str], find: Callable[[Path, str], Path]) -> Path | None:
    """The folder with most of the images, the earlier of equals; None if no image is in any."""
    for asked in (names[:: max(1, len(names) // _SOME)], names):
        counts = [sum(is_file(find(folder, name)) for name in asked) for folder in folders]
        if any(counts):
            return folders[counts.index(max(counts))]
    return None


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _candidates(folder: Path, name: str, last_part_alone: bool) -> Iterator[Path]:
    names = [name, name.replace("\\", "/")]
    if last_part_alone:
        names.append(_last_part(name))
    for spelt in dict.fromkeys(names):
        for form in dict.fromkeys((spelt, *(unicodedata.normalize(form, spelt) for form in ("NFC", "NFD")))):
            yield folder / form


def _last_part(name: str) -> str:
    """`x.jpg` of `C:\\\\data\\\\x.jpg`, `/data/upload/x.jpg` and `images/x.jpg`."""
    return PureWindowsPath(name).name or name
