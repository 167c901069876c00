"""Choices that were measured, in the user's cache folder: one small file for each bundle and machine.

Files appear whole, so that several processes may write; the last one counts. A file that does not hold here is left
alone, for it may be another machine's that shares the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..callbacks import Notice
from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import ConfigError
from ..files import write_text
from ..manifest import MANIFEST_NAME, manifest_sha256
from .key import Key, differences, key_of
from .ways import Way, Ways

SCHEMA_VERSION = 1
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Stored:
    """One file: the folder that the bundle was in, what the choice holds for, and the choice."""

    path: str
    key: Key
    ways: Ways


def cache_folder() -> Path:
    """`samhq/tuned` in XDG_CACHE_HOME, or in the cache folder that is usual on this system."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    usual = os.environ.get("LOCALAPPDATA", "") if sys.platform == "win32" else ""
    base = next((Path(text) for text in (given, usual) if text and Path(text).is_absolute()), None)
    return (base or _home() / ".cache") / "samhq" / "tuned"


def require_writable() -> None:
    """ConfigError, in one line, if choices cannot be kept here; asked before anything is measured."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ".writable", "")
        (folder / ".writable").unlink(missing_ok=True)
    except OSError as e:
        raise _unwritable(e) from e


def save(bundle: Path, ways: Ways) -> Path:
    """Keep a choice for this bundle on this machine; the file.

    Raises:
        ConfigError: the folder cannot be written.
    """
    key = key_of(bundle)
    machine = hashlib.sha256(f"{key['processor']} {key['gpu']}".encode()).hexdigest()
    path = cache_folder() / f"{key['bundle'][:16]}-{machine[:8]}.json"
    content = {
        "schema_version": SCHEMA_VERSION,
        "path": str(bundle.resolve()),
        "key": dict(key),
        "ways": {g: {"providers": way.providers, "threads": way.threads} for g, way in ways.by_graph.items()},
        "prompts_per_call": ways.prompts_per_call,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=2) + "\n")
    except OSError as e:
        raise _unwritable(e) from e
    return path


def load(bundle: Path, notice: Notice) -> Ways | None:
    """The choice that holds for this bundle here; None, after a notice if there is one for something else."""
    if not any(cache_folder().glob("*.json")) or not (bundle / MANIFEST_NAME).is_file():
        return None
    digest, place = manifest_sha256(bundle), str(bundle.resolve())
    ours = [stored for stored in _all(digest, notice) if stored.key["bundle"] == digest or stored.path == place]
    if not ours:
        return None
    here = key_of(bundle)
    changes, ways = min(((differences(s.key, here), s.ways) for s in ours), key=lambda found: len(found[0]))
    if not changes:
        return ways
    notice(f"{bundle}: what `samhq tune` stored is not used: it was for {'; '.join(changes)}; run it again")
    return None


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without an entry, as in some containers; nobody may write here, which is told
        return Path(os.sep)


def _all(digest: str, notice: Notice) -> Iterator[Stored]:
    """Every file that can be read; of the others those of this bundle are told."""
    for path in sorted(cache_folder().glob("*.json")):
        try:
            yield _read(path)
        except _UNREADABLE as e:
            if path.name.startswith(digest[:16]):
                notice(f"{path}: cannot be read ({type(e).__name__}) and is not used; run `samhq tune` again")


def _read(path: Path) -> Stored:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["schema_version"] != SCHEMA_VERSION:
        raise ValueError("another version's")
    ways = {graph: _way(content["ways"][graph]) for graph in (IMAGE_ENCODER, MASK_DECODER)}
    prompts = content["prompts_per_call"]
    if prompts is not None and not (type(prompts) is int and prompts > 0):
        raise ValueError("no number of prompts")
    return Stored(str(content["path"]), {str(n): str(v) for n, v in content["key"].items()}, Ways(ways, prompts))


def _way(content: Any) -> Way:
    providers, threads = content["providers"], content["threads"]
    if not (isinstance(providers, list) and providers and all(isinstance(name, str) for name in providers)):
        raise ValueError("no providers")
    if not (type(threads) is int and threads >= 0):
        raise ValueError("no number of threads")
    return Way(tuple(providers), threads)


def _unwritable(error: OSError) -> ConfigError:
    return ConfigError(
        f"{cache_folder()}: the choice cannot be kept there ({error.strerror}); set XDG_CACHE_HOME to a folder that "
        "can be written, here and where the bundle runs"
    )
