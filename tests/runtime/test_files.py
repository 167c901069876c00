"""Files are written whole or not at all, by names that nobody else uses."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from samhq_runtime.files import sha256_of, sweep, write_folder, write_text, write_whole


def test_bytes_are_those_given_on_every_system(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    assert sha256_of(path) == hashlib.sha256(b"\xc3\xa9\n").hexdigest()


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def write(partial: Path) -> None:
        partial.write_text("half")
        raise error

    with pytest.raises(error):
        write_whole(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_unique_hidden_and_keep_the_suffix(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    names: list[Path] = []
    for _ in range(2):
        write_whole(path, lambda partial: names.append(partial) or partial.touch())
    first, second = names
    assert first != second
    assert all(name.parent == tmp_path and name.name.startswith(".a.png.") for name in names)
    assert first.suffix == second.suffix == ".png"


@pytest.mark.parametrize("name", ["a.png", "a", ".a.png", "a.partial"])
def test_sweep_removes_what_a_killed_process_left_and_no_more(tmp_path: Path, name: str) -> None:
    kept = [tmp_path / f"{kept}" for kept in (name, ".notes.partial", ".partial", "x.12-ab.partial.png")]
    for path in kept:
        path.touch()
    partials: list[Path] = []
    (tmp_path / "sub").mkdir()
    write_whole(tmp_path / "sub" / name, lambda partial: partials.append(partial) or partial.touch())
    (tmp_path / "sub" / name).rename(partials[0])
    sweep(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_a_folder_is_replaced_whole_and_half_filled_ones_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / "a.png"
    for name in ("old", "new"):
        write_folder(folder, lambda partial, name=name: (partial / name).touch())  # type: ignore[misc]
    assert [path.name for path in folder.iterdir()] == ["new"]

    def killed(partial: Path) -> None:
        (partial / "half").touch()
        shutil.copytree(partial, tmp_path / "below" / partial.name)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, killed)
    assert [path.name for path in folder.iterdir()] == ["new"]
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "below", "new"]
