"""Released checkpoints in the Hugging Face cache; what a stopped download has left is taken up again.

`huggingface_hub` itself starts over after a stopped command in its newer versions (2.4 deletes its partial file), and
resumes in its older ones. So the bytes are fetched here, with its own `http_get`, into a partial file beside the blobs
of its cache; the finished file becomes a blob, and `hf_hub_download` links it to its name. Cache, endpoint, proxies,
offline mode and the progress bar are the hub's.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.file_download import HfFileMetadata, http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from samhq_runtime.errors import DownloadError, reason_of
from samhq_runtime.files import sha256_of

from .released import Release


def fetch(release: Release) -> Path:
    """The file of `release` in the Hugging Face cache, downloaded if it is not there yet, its SHA-256 checked.

    Raises:
        DownloadError: it cannot be fetched, or is another file than the pinned one; the cache then does not keep it.
    """
    if constants.HF_HUB_CACHE.startswith("~"):
        raise DownloadError("no home folder for the cache of downloads; set HF_HOME to a folder that can be written")
    try:
        cached = try_to_load_from_cache(release.repository, release.file, revision=release.revision)
        path = Path(cached) if isinstance(cached, str) else _download(release)
    except DownloadError:
        raise
    except Exception as e:  # which HTTP library lies below, hence what it raises, depends on the version
        raise DownloadError(
            f"{release.file} of {release.repository} cannot be downloaded ({reason_of(e)}); try again (what has come "
            "is kept, and the download goes on from there), or get the file in another way and give its path as "
            "--checkpoint"
        ) from e
    _require_pinned(path, release)
    return path


def _download(release: Release) -> Path:
    url = hf_hub_url(release.repository, release.file, revision=release.revision)
    metadata = get_hf_file_metadata(url)
    if not metadata.etag:
        raise OSError("the server names no ETag, by which the cache keeps files")
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=release.repository, repo_type="model") / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{release.sha256}.partial"
    with WeakFileLock(partial.with_suffix(".lock")):
        _fetch_rest(release, url, metadata, partial)
        _require_pinned(partial, release)
        partial.replace(folder / metadata.etag)
    partial.with_suffix(".lock").unlink(missing_ok=True)
    return Path(hf_hub_download(release.repository, release.file, revision=release.revision))


def _fetch_rest(release: Release, url: str, metadata: HfFileMetadata, partial: Path) -> None:
    """Fetch what `partial` lacks; an interruption leaves what has come."""
    same_host = urlparse(metadata.location).netloc == urlparse(url).netloc
    headers = build_hf_headers(token=None if same_host else False)  # the user's token is for the hub alone
    partial.touch()
    with partial.open("r+b") as file:
        have = file.seek(0, 2)
        if metadata.size is not None and have > metadata.size:
            have = file.truncate(file.seek(0))
        http_get(
            metadata.location,
            file,
            resume_size=have,
            headers=headers,
            expected_size=metadata.size,
            displayed_filename=Path(release.file).name,
        )


def _require_pinned(path: Path, release: Release) -> None:
    """DownloadError unless the file is the pinned one; it is then deleted, with the link to it if it is a blob."""
    found = sha256_of(path)
    if found == release.sha256:
        return
    path.resolve().unlink()
    path.unlink(missing_ok=True)
    raise DownloadError(
        f"{release.file} of {release.repository}: got SHA-256 {found}, expected {release.sha256}; the download was "
        "removed: try again, or get the file in another way and give its path as --checkpoint"
    )
