"""A folder appears under its name complete, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from samhq_runtime.errors import ConfigError, interrupted
from samhq_runtime.files import is_utf8, json_or_none
from samhq_runtime.leftovers import abandoned, claimed, new_folder, removable, sweep
from samhq_runtime.manifest import MANIFEST_NAME

_PARTIAL, _OLD = ".partial", ".old"


@contextmanager
def staged(output: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder beside `output`; renamed to `output` if the block succeeds, removed if it does not.

    Raises:
        ConfigError: `output` exists without `overwrite`, is not a bundle, or its parent cannot be written; asked before
            the block and after it, because exports take minutes.
    """
    named, output = output, Path(os.path.realpath(output))  # what a link names is replaced, not the link
    if not is_utf8(output):
        raise ConfigError(f"{str(output)!r}: no backend opens a path that is not UTF-8; choose another --output")
    recover(output)
    _require_replaceable(named, overwrite=overwrite)
    with ExitStack() as stack:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            staging = stack.enter_context(new_folder(output.parent, _prefix(output), _PARTIAL))
        except OSError as e:
            raise ConfigError(f"{output}: cannot be written ({e.strerror}); choose another --output") from e
        yield staging
        staging.chmod(0o755)
        _require_replaceable(named, overwrite=overwrite)
        _swap(staging, output)


def recover(output: Path) -> None:
    """Remove what dead exports to `output` left; what one had moved aside goes back if nothing is in its place."""
    for old in abandoned(output.parent, _prefix(output), _OLD):
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            with suppress(OSError):
                old.rename(output)
    sweep(output.parent, _prefix(output), _PARTIAL)


def _prefix(output: Path) -> str:
    return f".{output.name}."


def _require_replaceable(output: Path, *, overwrite: bool) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise ConfigError(f"{output}: already exists; choose another --output, or give --overwrite to replace it")
    if not _is_bundle(output) and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: is not a bundle, so --overwrite does not replace it; choose another --output")
    if not removable(output):
        raise ConfigError(f"{output}: belongs to another user, who alone can replace it; choose another --output")


def _is_bundle(folder: Path) -> bool:
    """Whether this project wrote it, in whatever version: other folders have a `manifest.json` too."""
    content = json_or_none(folder / MANIFEST_NAME)
    return isinstance(content, dict) and {"schema_version", "graphs", "files"} <= content.keys()


def _swap(staging: Path, output: Path) -> None:
    """Rename `staging` to `output`; an old bundle there is moved aside first and deleted last."""
    if not output.exists():
        staging.rename(output)
        return
    old = staging.with_suffix(_OLD)
    with claimed(output):
        output.rename(old)
        try:
            staging.rename(output)
        except BaseException:  # Ctrl-C too
            old.rename(output)
            raise
        with interrupted(f"{output} is complete, and what it replaced partly left in {old}"):
            shutil.rmtree(old)
