"""What a killed export left beside its output: found by the next one, and put right.

A folder in the making is locked by the process that makes it, for as long as that lives: the system lets go of the lock
with the process, however it ends, so a folder that can be locked is nobody's. Where folders cannot be locked, nothing
is removed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

PARTIAL, OLD = ".partial", ".old"
_RANDOM = r"[a-z0-9_]{8}"  # of tempfile.mkdtemp


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, also once it is renamed; False if another process holds it, or none can be had."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def recover(output: Path) -> None:
    """Remove what dead exports to `output` left; what one had moved aside goes back if nothing is in its place."""
    for old in _abandoned(output, OLD):
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            with suppress(OSError):
                old.rename(output)
    for partial in _abandoned(output, PARTIAL):
        shutil.rmtree(partial, ignore_errors=True)


def removable(folder: Path) -> bool:
    """Whether this user may remove a folder with all that is in it: it and its folders are the user's own."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return True
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]
    return all(path.stat().st_uid == os.geteuid() for path in folders)


def _abandoned(output: Path, suffix: str) -> Iterator[Path]:
    """Folders of this user that nobody holds; held by us while the caller has them."""
    name = re.compile(re.escape(f".{output.name}.") + _RANDOM + re.escape(suffix))
    try:
        found = sorted(output.parent.iterdir())
    except OSError:  # no folder yet, or one that may not be listed
        return
    for folder in found:
        if name.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink() and removable(folder):
            with claimed(folder) as ours:
                if ours:
                    yield folder


def _lock(handle: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
