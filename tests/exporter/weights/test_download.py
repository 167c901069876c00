"""Checkpoints by name, from a stand-in server on this machine; nothing here reaches the internet."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from samhq_exporter.cli import main
from samhq_exporter.weights.released import RELEASES, Release, release_of
from samhq_runtime.bundle import load_bundle
from samhq_runtime.errors import DownloadError
from samhq_runtime.installing import install_command
from tests.support.hub_server import COMMIT, Hub, serve

huggingface_hub = pytest.importorskip("huggingface_hub", reason="the `hub` extra is not installed")
download = pytest.importorskip("samhq_exporter.weights.download")
CONTENT = bytes(range(256)) * 2000
RELEASE = Release(
    repository="owner/weights",
    file="folder/sam_hq_vit_b.pth",
    revision=COMMIT,
    sha256=sha256(CONTENT).hexdigest(),
    bytes=len(CONTENT),
)


def path_of(release: Release) -> str:
    return f"{release.repository}/resolve/{release.revision}/{release.file}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(Hub(path_of(RELEASE), CONTENT)) as hub:
        # The environment variables are read at import: test_the_environment_is_respected sets them in a child process.
        ask(hub.url, tmp_path, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its attempts
        yield hub


def ask(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let downloads go to `url`, into a cache of their own."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


def cached(tmp_path: Path) -> list[Path]:
    """Every file in the cache that claims to be weights; the parts of a download do not."""
    files = (path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size > 1000)
    return [path for path in files if path.suffix != ".partial"]


def test_a_user_without_a_home(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of `~` when nobody knows the user; no folder of that name is made."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")
    with pytest.raises(DownloadError, match=r"no home folder.*set HF_HOME"):
        download.fetch(RELEASE)
    assert not hub.requests


def test_downloaded_once(hub: Hub, tmp_path: Path) -> None:
    path = download.fetch(RELEASE)
    assert path.read_bytes() == CONTENT
    assert path.name == "sam_hq_vit_b.pth"
    assert path.is_relative_to(tmp_path / "cache")
    assert hub.downloads == [None]
    assert download.fetch(RELEASE) == path
    assert len(hub.downloads) == 1


def test_a_broken_connection_resumes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 64_000)  # else one chunk is the whole file
    hub.broken_connections = 2
    assert download.fetch(RELEASE).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert hub.downloads == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_other_bytes_are_refused_and_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.content = b"?" + CONTENT[1:]
    hub.announced = hub.content
    with pytest.raises(DownloadError, match=f"got SHA-256 [0-9a-f]{{64}}, expected {RELEASE.sha256}"):
        download.fetch(RELEASE)
    assert not cached(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))
    hub.content, hub.announced = CONTENT, None
    assert download.fetch(RELEASE).read_bytes() == CONTENT


def test_a_damaged_cache_is_noticed(hub: Hub, tmp_path: Path) -> None:
    path = download.fetch(RELEASE)
    path.resolve().chmod(0o644)
    path.resolve().write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="got SHA-256"):
        download.fetch(RELEASE)
    assert download.fetch(RELEASE).read_bytes() == CONTENT


CHILD = """
from huggingface_hub import constants
from samhq_exporter.weights import download
from samhq_exporter.weights.released import Release
constants.DOWNLOAD_CHUNK_SIZE = 64_000  # else one chunk is the whole file
download.fetch(Release(**{arguments!r}))
"""


def start_child(hub: Hub, tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that fetches `RELEASE` from `hub`."""
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.format(arguments=vars(RELEASE))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "0", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def stop_in_the_middle(hub: Hub, tmp_path: Path) -> int:
    """Kill a child when the first part of the file is on disk; how many bytes that is."""
    hub.stalled_after = len(CONTENT) // 2
    child = start_child(hub, tmp_path)
    deadline = time.monotonic() + 60
    while not (sizes := [path.stat().st_size for path in tmp_path.rglob("*.partial")]) or not sizes[0]:
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    child.kill()
    child.communicate()
    hub.stalled_after = None
    (partial,) = tmp_path.rglob("*.partial")
    return partial.stat().st_size


def test_a_killed_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    have = stop_in_the_middle(hub, tmp_path)
    assert 0 < have < len(CONTENT)
    child = start_child(hub, tmp_path)
    assert child.communicate(timeout=60)[1] == ""
    assert child.returncode == 0
    assert hub.downloads == [None, f"bytes={have}-"]
    assert download.fetch(RELEASE).read_bytes() == CONTENT
    assert not list(tmp_path.rglob("*.partial"))


def test_a_server_error_when_it_goes_on(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear message, and what has come is still there for the next try."""
    have = stop_in_the_middle(hub, tmp_path)
    hub.get_status = 503
    with pytest.raises(DownloadError, match=r"cannot be downloaded \(.*503.*\); try again"):
        download.fetch(RELEASE)
    hub.get_status = None
    assert download.fetch(RELEASE).read_bytes() == CONTENT
    assert hub.downloads[-1] == f"bytes={have}-"


FAILURES: dict[str, dict[str, object]] = {
    "not found": {"status": 404},
    "not allowed": {"status": 403},
    "server error": {"status": 500},
    "server error in the middle, again and again": {"broken_connections": 1000},
    "half a file": {"content": CONTENT[: len(CONTENT) // 2]},
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_a_server_can_do(hub: Hub, tmp_path: Path, case: str) -> None:
    """Half a file: all headers promise the whole, every answer ends early."""
    for name, value in FAILURES[case].items():
        setattr(hub, name, value)
    hub.announced = CONTENT
    with pytest.raises(DownloadError, match=r"cannot be downloaded \(.+\); try again") as error:
        download.fetch(RELEASE)
    assert "\n" not in str(error.value)
    assert not cached(tmp_path)


def test_no_server(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("http://127.0.0.1:1", tmp_path, monkeypatch)
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download.fetch(RELEASE)


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked; what is in the cache is used."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download.fetch(RELEASE)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    path = download.fetch(RELEASE)
    asked = len(hub.requests)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert download.fetch(RELEASE) == path
    assert len(hub.requests) == asked


def test_every_release_is_pinned() -> None:
    for name, release in RELEASES.items():
        assert len(release.sha256) == 64, name
        assert int(release.sha256, 16), name
        assert len(release.revision) == 40 or name == "mobile_sam", name
    assert RELEASES["vit_l"] is RELEASES["sam_hq_vit_l"] is not RELEASES["sam_vit_l"]


def test_a_path_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert release_of(Path("vit_l")) is RELEASES["sam_hq_vit_l"]
    assert release_of(Path("folder/vit_l")) is None
    assert release_of(Path("vit_l.pth")) is None
    (tmp_path / "vit_l").mkdir()
    assert release_of(Path("vit_l")) is None


def test_export_by_name(
    hub: Hub, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content = tiny_checkpoint.read_bytes()
    release = Release(
        repository="owner/weights",
        file="sam_hq_vit_b.pth",
        revision=COMMIT,
        sha256=sha256(content).hexdigest(),
        bytes=len(content),
    )
    hub.path, hub.content = path_of(release), content
    monkeypatch.setitem(RELEASES, "vit_b", release)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_POSITION", "-1")  # show the bar although this is no terminal
    assert main(["--checkpoint", "vit_b"]) == 0
    manifest = load_bundle("samhq-vit_b-fp32").manifest
    assert manifest.checkpoint == {"file": "sam_hq_vit_b.pth", "sha256": release.sha256}
    err = capfd.readouterr().err
    assert "fetch sam_hq_vit_b.pth" in err
    assert "100%" in err  # the progress bar


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "got SHA-256"),  # the stand-in serves something else under the real name
        ({"HF_HUB_OFFLINE": "1"}, "cannot be downloaded"),
    ],
)
def test_the_environment_is_respected(tmp_path: Path, environment: dict[str, str], message: str) -> None:
    with serve(Hub(path_of(RELEASES["vit_tiny"]), CONTENT)) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), **environment}
        done = subprocess.run(
            [sys.executable, "-m", "samhq_exporter", "--checkpoint", "vit_tiny", "--output", str(tmp_path / "bundle")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert bool(hub.requests) == ("HF_HUB_OFFLINE" not in environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "samhq_exporter.weights.download", raising=False)
    assert main(["--checkpoint", "vit_b", "--output", str(tmp_path / "bundle")]) == 1
    assert f"huggingface_hub is missing: {install_command('hub')}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
