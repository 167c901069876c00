"""What became of a file of a bundle that is not the one its manifest was written with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..file_kinds import LINE_ENDINGS, stand_in_of
from ..manifest import FileEntry

_MOST_TEXT = 1 << 24


def damage_of(path: Path, expected: FileEntry) -> tuple[str, str]:
    """What the file is now, and what to do about it."""
    stand_in = stand_in_of(path)
    if stand_in is not None:
        what, _, cure = stand_in.partition("; ")
        return what, cure
    size = path.stat().st_size
    if size <= _MOST_TEXT and hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest() == expected.sha256:
        return "damaged or changed (its line endings)", LINE_ENDINGS
    if size < expected.bytes:
        return f"damaged or changed (cut off after {size} of {expected.bytes} bytes)", "copy it again"
    return "damaged or changed (its SHA-256 is not the manifest's)", "copy it again"


def absence_of(path: Path) -> str:
    """Why there is no file, where something is there."""
    if not path.is_symlink():
        return " (it is no file)" if path.exists() else ""
    what = "which is no file" if path.exists() else "which is not there; fetch it: git annex get, dvc pull, hf download"
    return f" (a link to {str(path.readlink())!r}, {what})"
