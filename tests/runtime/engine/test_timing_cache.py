"""Kernel timings: used where they hold, ignored with a word where they do not, never fatal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from samhq_runtime.engine.timing_cache import TimingCache, timing_cache_folder

TIMINGS = b"timings\nof many kernels"


@pytest.fixture
def cache(tmp_path: Path) -> TimingCache:
    return TimingCache(tmp_path / "bundle.timing-cache", "tensorrt", "10.3.0", "Orin (nvgpu)")


@pytest.fixture
def notices() -> list[str]:
    return []


def test_round_trip(cache: TimingCache, notices: list[str]) -> None:
    assert cache.load(notices.append) == b""
    cache.save(TIMINGS, notices.append)
    assert cache.load(notices.append) == TIMINGS
    assert cache.path.name == "tensorrt-10.3.0-Orin-nvgpu-.timing-cache"
    assert [path.name for path in cache.folder.iterdir()] == [cache.path.name]
    assert notices == []


@pytest.mark.parametrize("change", [{"version": "10.4.0"}, {"gpu": "NVIDIA H200"}, {"flavour": "rtx"}])
def test_of_another_version_or_gpu(cache: TimingCache, notices: list[str], change: dict[str, str]) -> None:
    other = replace(cache, **change)  # type: ignore[arg-type]
    other.save(TIMINGS, notices.append)
    assert cache.load(notices.append) == b""
    assert "none yet for tensorrt 10.3.0" in notices[0]
    other.path.rename(cache.path)  # and under the right name
    assert cache.load(notices.append) == b""
    assert "was made by" in notices[1]
    assert next(iter(change.values())) in notices[1]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"garbage", b"[]\nx", b"{}\nx", b'{"flavour": []}\n', b"\xff\xfe\n", b"[" * 100_000]
)
def test_not_a_cache(cache: TimingCache, notices: list[str], content: bytes) -> None:
    cache.folder.mkdir()
    cache.path.write_bytes(content)
    assert cache.load(notices.append) == b""
    assert "ignored" in notices[0]


def test_cut_short(cache: TimingCache, notices: list[str]) -> None:
    cache.save(TIMINGS, notices.append)
    cache.path.write_bytes(cache.path.read_bytes()[:-1])
    assert cache.load(notices.append) == b""
    assert "is damaged" in notices[0]


def test_cannot_be_written(cache: TimingCache, notices: list[str]) -> None:
    cache.folder.write_text("a file where the folder should be")
    cache.save(TIMINGS, notices.append)
    assert "timing cache not kept" in notices[0]
    assert cache.load(notices.append) == b""


def test_beside_the_bundle(tmp_path: Path) -> None:
    assert timing_cache_folder(tmp_path / "samhq-vit_b-fp16") == tmp_path / "samhq-vit_b-fp16.timing-cache"
