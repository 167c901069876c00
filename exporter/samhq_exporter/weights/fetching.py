"""A checkpoint by path or by a release's name -> the file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from samhq_runtime.errors import BackendUnavailable
from samhq_runtime.installing import install_command

from ..steps import Step
from .released import release_of


def fetched(checkpoint: Path, step: Step = nullcontext) -> Path:
    """The file of a released checkpoint's name, downloaded in a `step`; any other path as it is.

    Raises:
        BackendUnavailable: what downloads is not installed.
        DownloadError: it cannot be fetched.
    """
    release = release_of(checkpoint)
    if release is None:
        return checkpoint
    try:
        from .download import fetch
    except ModuleNotFoundError as e:
        raise BackendUnavailable(
            f"checkpoint {checkpoint}: no such file, and to download that release {e.name} is missing: "
            f"{install_command('hub')}"
        ) from e
    with step(f"fetch {release.file} ({release.bytes / 1e6:.0f} MB) of {release.repository}"):
        return fetch(release)
