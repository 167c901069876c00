"""Released checkpoints through `huggingface_hub`: cache, progress bar, resuming, proxies and offline mode are its."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download

from samhq_runtime.errors import DownloadError
from samhq_runtime.manifest import sha256_of

from .released import Release


def fetch(release: Release) -> Path:
    """The file of `release` in the Hugging Face cache, downloaded if it is not there yet, its SHA-256 checked.

    Raises:
        DownloadError: it cannot be fetched, or is another file than the pinned one; the cache then does not keep it.
    """
    try:
        path = Path(hf_hub_download(release.repository, release.file, revision=release.revision))
    except Exception as e:  # which HTTP library lies below, hence what it raises, depends on the version
        cause = e.__cause__ or e  # a server's answer is the cause of "not in the cache"
        reason = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise DownloadError(
            f"{release.file} of {release.repository} cannot be downloaded ({reason}); try again (a broken connection "
            "resumes), or get the file in another way and give its path as --checkpoint"
        ) from e
    found = sha256_of(path)
    if found != release.sha256:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{release.file} of {release.repository}: got SHA-256 {found}, expected {release.sha256}; the download was "
            "removed: try again, or get the file in another way and give its path as --checkpoint"
        )
    return path
