"""What is slow to make and only read: once for all workers of pytest-xdist, not once for each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from samhq_exporter.config import ExportConfig
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.files import sha256_of

from .bundles import export


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` filled: whichever worker comes first makes it, the others wait for it."""
    run = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        run = run.parent  # the folders of the workers lie side by side in the run's
    folder, complete = run / "shared" / name, run / "shared" / f"{name}.complete"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder


def shared_bundle(factory: pytest.TempPathFactory, checkpoint: Path, **options: object) -> Bundle:
    """The export of these weights with these options; copy it to change it."""
    changed = [str(value) for name, value in sorted(options.items()) if value != getattr(ExportConfig, name)]
    name = "-".join([checkpoint.stem, sha256_of(checkpoint)[:8], *changed])
    return load_bundle(
        shared(factory, name, lambda folder: export(checkpoint, folder / "bundle", **options)) / "bundle"
    )
