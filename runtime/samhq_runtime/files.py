"""Files: read for their hash, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


_KEPT_NAME, _LONGEST_SUFFIX = 32, 16  # characters: a name may have as many bytes as the file system allows
_PARTIAL = re.compile(r"\..*\.\d+-[0-9a-f]{32}\.partial(\.[^.]*)?")


def is_utf8(path: Path) -> bool:
    """Whether a path is text; on Linux any bytes may be one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a file beside `path`, then put it in its place; an interruption leaves no trace.

    The file keeps the suffix, which some libraries choose the format by. Its name is unique, also among the processes
    of other machines that share the folder.
    """
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    partial = _partial(path, suffix)
    try:
        write(partial)
        partial.replace(path)
    finally:
        with suppress(OSError):  # the disk may be read-only by now; what went wrong above is the error to show
            partial.unlink(missing_ok=True)


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Have `fill` put files into a folder beside `path`, then put that in its place, instead of one that was there."""
    partial = _partial(path, "")
    try:
        partial.mkdir()
        fill(partial)
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(path: Path, suffix: str) -> Path:
    return path.parent / f".{path.name[:_KEPT_NAME]}.{os.getpid()}-{uuid.uuid4().hex}.partial{suffix}"


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with bare line feeds, whole or not at all."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, content: object) -> None:
    """Write JSON on one line, whole or not at all; the folder is made if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content) + "\n")


def json_or_none(path: Path) -> Any:
    """The content of a JSON file in UTF-8; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def sweep(folder: Path, *, older_than_s: float = 0) -> None:
    """Remove below `folder` what killed processes left half-written; nobody may be writing such old files there."""
    for parent, folders, files in os.walk(folder):
        for name in filter(_PARTIAL.fullmatch, [*folders, *files]):
            path = Path(parent, name)
            with suppress(FileNotFoundError):  # whoever wrote it has put it in its place
                if time.time() - path.stat().st_mtime >= older_than_s:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
