"""Copies of a graph and its weights, for a session alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from ..errors import BundleError
from ..files import sha256_of
from ..manifest import Manifest
from .external_data import external_files


@contextmanager
def copy_of(bundle: Path, graph: str, manifest: Manifest) -> Iterator[Path]:
    """A folder with the graph's file and those it takes weights from, hashed there; removed afterwards.

    What a session has mapped stays until it is closed, where systems let open files be removed.
    """
    weights = [(PurePosixPath(graph).parent / name).as_posix() for name in external_files(bundle / graph)]
    with TemporaryDirectory(prefix="samhq-", ignore_cleanup_errors=True) as folder:
        for name in (graph, *weights):
            copy = Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(bundle / name, copy)
            except OSError as e:
                raise BundleError(f"{bundle / name}: cannot be copied to {copy} ({e.strerror or e})") from e
            if sha256_of(copy) != manifest.files[name].sha256:
                raise BundleError(f"{bundle / name}: changed since it was loaded; load the bundle again")
        yield Path(folder)


def has_links(bundle: Path) -> bool:
    """Whether a file is a link, which some backends do not follow out of the folder."""
    return any(path.is_symlink() for path in bundle.iterdir())
