"""Engines enter a bundle all together, with its manifest, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..files import sha256_of
from ..leftovers import new_folder, sweep
from ..manifest import EngineEntry, FileEntry, read_manifest, write_manifest

_PIECE = 16 << 20
_PREFIX, _SUFFIX = ".engines.", ".partial"


@dataclass(frozen=True)
class StagedEngine:
    """An engine that is written but not yet part of the bundle; the entry's `file` is its name once it is."""

    path: Path
    entry: EngineEntry


@contextmanager
def staging_folder(bundle: Path) -> Iterator[Path]:
    """A folder in the bundle (so that moving out of it is a rename), removed at the end; those of killed builds too."""
    sweep(bundle, _PREFIX, _SUFFIX)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(new_folder(bundle, _PREFIX, _SUFFIX))
        except OSError as e:
            raise _unwritable(bundle, e) from e
        yield folder


class PlanFile:
    """A file for one plan; says which file when the disk is full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def __enter__(self) -> PlanFile:
        self._file = self.path.open("wb")
        return self

    def write(self, data: Any) -> None:
        """Append any buffer.

        Raises:
            OSError: the disk is full, or the like.
        """
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            self._file.write(view[start : start + _PIECE])

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


def engine_file_name(graph: str, flavour: str, plan: Path) -> str:
    """Its hash is in the name, so a new engine never overwrites the one the manifest still lists."""
    return f"{graph}.{flavour}-{sha256_of(plan)[:12]}.engine"


def add_engines(bundle: Path, engines: Mapping[str, StagedEngine]) -> None:
    """Move staged engines into the bundle and rewrite its manifest; engines of the same keys are replaced.

    At every moment the manifest on disk describes files that are there and whole.

    Raises:
        BundleError: the disk is full or read-only; the bundle is as it was.
    """
    manifest = read_manifest(bundle)  # again: another build may have added to it meanwhile
    replaced = {manifest.engines[key].file for key in engines if key in manifest.engines}
    files = {name: entry for name, entry in manifest.files.items() if name not in replaced}
    added: list[Path] = []
    try:
        for engine in engines.values():
            target = bundle / engine.entry.file
            files[engine.entry.file] = FileEntry(sha256_of(engine.path), engine.path.stat().st_size)
            if not target.exists():
                added.append(target)
            engine.path.replace(target)
        entries = {**manifest.engines, **{key: engine.entry for key, engine in engines.items()}}
        write_manifest(bundle, replace(manifest, files=files, engines=entries))
    except BaseException as e:
        for path in added:
            with suppress(OSError):
                path.unlink()
        if isinstance(e, OSError):
            raise _unwritable(bundle, e) from e
        raise
    for name in replaced - files.keys():
        with suppress(OSError):
            (bundle / name).unlink()


@contextmanager
def write_errors(file: Path) -> Iterator[None]:
    """OSError inside -> BundleError that names the file."""
    try:
        yield
    except OSError as e:
        raise _unwritable(file, e) from e


def _unwritable(path: Path, error: OSError) -> BundleError:
    return BundleError(f"{path}: cannot be written ({error.strerror or error}); the bundle is as it was")
