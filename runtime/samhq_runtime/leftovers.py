"""Folders in the making, and what killed processes left of theirs.

A folder in the making is locked by the process that makes it, for as long as that lives: the system lets go of the lock
with the process, however it ends, so a folder that can be locked is nobody's. Where folders cannot be locked, nothing
is removed.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

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


@contextmanager
def new_folder(parent: Path, prefix: str, suffix: str) -> Iterator[Path]:
    """A temporary folder in `parent` that is ours while the block runs, then removed; OSError if it cannot be made."""
    with ExitStack() as claims:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
            claims.enter_context(claimed(folder))
            if folder.is_dir():  # or another process took it for a dead one's in the moment before it was locked
                break
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, prefix: str, suffix: str) -> None:
    """Remove what is abandoned."""
    for folder in abandoned(parent, prefix, suffix):
        shutil.rmtree(folder, ignore_errors=True)


def abandoned(parent: Path, prefix: str, suffix: str) -> Iterator[Path]:
    """Folders that `new_folder` made in `parent`, which are this user's and nobody holds; ours while the caller's."""
    name = re.compile(re.escape(prefix) + _RANDOM + re.escape(suffix))
    try:
        found = sorted(parent.iterdir())
    except OSError:  # no folder yet, or one that may not be listed
        return
    for folder in found:
        if name.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink() and removable(folder):
            with claimed(folder) as ours:
                if ours:
                    yield folder


def removable(folder: Path) -> bool:
    """Whether this user may remove a folder with all that is in it: it and its folders are the user's own."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        return True
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]
    return all(path.stat().st_uid == os.geteuid() for path in folders)


def _lock(handle: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
