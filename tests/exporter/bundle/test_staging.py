"""A bundle appears complete or not at all, and what was there before survives every failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from samhq_exporter.bundle.staging import staged
from samhq_runtime.errors import ConfigError, GraphError
from samhq_runtime.manifest import MANIFEST_NAME

MANIFEST = json.dumps({"schema_version": 0, "graphs": {}, "files": {}})  # of whatever version


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return fill(tmp_path / "bundle", "old")


def fill(folder: Path, text: str) -> Path:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text(text)
    (folder / MANIFEST_NAME).write_text(MANIFEST)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


def write_half_and_raise(output: Path, error: type[BaseException], *, overwrite: bool) -> None:
    with staged(output, overwrite=overwrite) as folder:
        (folder / "half").write_text("new")
        raise error


@pytest.mark.parametrize("output", ["bundle", "not/yet/there"])
def test_appears_when_complete(tmp_path: Path, output: str) -> None:
    with staged(tmp_path / output, overwrite=False) as folder:
        fill(folder / "x", "new")
        assert folder.parent == (tmp_path / output).parent  # the same file system: a rename will do
        assert not (tmp_path / output).exists()
    assert content(tmp_path / output) == {"x/inner/file": "new", "x/manifest.json": MANIFEST}
    assert list((tmp_path / output).parent.iterdir()) == [tmp_path / output]
    assert (tmp_path / output).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [OSError, GraphError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("replacing", [False, True])
def test_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException], replacing: bool) -> None:
    output = tmp_path / "bundle"
    before = content(fill(output, "old")) if replacing else {}
    with pytest.raises(error):
        write_half_and_raise(output, error, overwrite=replacing)
    assert list(tmp_path.iterdir()) == [output] * replacing
    assert content(output) == before


def test_overwrite_replaces_everything(old: Path) -> None:
    with staged(old, overwrite=True) as folder:
        (folder / "only").write_text("new")
        assert content(old)["inner/file"] == "old"  # until the new one is complete
    assert content(old) == {"only": "new"}
    assert list(old.parent.iterdir()) == [old]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    with staged(tmp_path / "bundle", overwrite=True) as folder:
        (folder / "only").write_text("new")
    assert content(tmp_path / "bundle") == {"only": "new"}


def test_a_link_keeps_naming_the_bundle(old: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(old)
    with staged(link, overwrite=True) as folder:
        (folder / "only").write_text("new")
    assert link.is_symlink()
    assert content(old) == content(link) == {"only": "new"}
    assert sorted(tmp_path.iterdir()) == [old, link]


def test_existing_output_needs_overwrite(old: Path) -> None:
    with pytest.raises(ConfigError, match="--overwrite to replace it"), staged(old, overwrite=False):
        pytest.fail("must be refused before any work")
    assert content(old)["inner/file"] == "old"


FOREIGN = {
    "a file": lambda path: path.write_text("mine"),
    "a folder with other things": lambda path: [path.mkdir(), (path / "photo.jpg").touch()],
    "a manifest of something else": lambda path: [path.mkdir(), (path / MANIFEST_NAME).write_text('{"name": "app"}')],
    "a damaged manifest": lambda path: [path.mkdir(), (path / MANIFEST_NAME).write_text("{")],
}


@pytest.mark.parametrize("case", FOREIGN)
def test_overwrite_never_deletes_what_is_not_a_bundle(tmp_path: Path, case: str) -> None:
    FOREIGN[case](tmp_path / "bundle")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="is not a bundle"), staged(tmp_path / "bundle", overwrite=True):
        pytest.fail("must be refused before any work")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("case", FOREIGN)
def test_what_appears_during_the_export_survives(tmp_path: Path, case: str, overwrite: bool) -> None:
    with pytest.raises(ConfigError, match="is not a bundle" if overwrite else "already exists"):
        write_while(tmp_path / "bundle", FOREIGN[case], overwrite=overwrite)
    left = sorted(tmp_path.rglob("*"))
    assert left
    assert all(path.is_relative_to(tmp_path / "bundle") for path in left)


def write_while(output: Path, happens: Callable[[Path], object], *, overwrite: bool) -> None:
    with staged(output, overwrite=overwrite) as folder:
        (folder / "only").write_text("new")
        happens(output)


def test_a_bundle_that_appears_during_the_export_needs_overwrite(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="already exists"):
        write_while(tmp_path / "bundle", lambda output: fill(output, "theirs"), overwrite=False)
    assert content(tmp_path / "bundle")["inner/file"] == "theirs"


@pytest.mark.parametrize("output", ["file/bundle", "file/below/bundle"])
def test_parent_is_a_file(tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="choose another --output"), staged(tmp_path / output, overwrite=False):
        pytest.fail("must be refused before any work")


def test_parent_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a monkeypatch, because root may write anywhere."""

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    output = tmp_path / "bundle"
    with pytest.raises(ConfigError, match="Permission denied"), staged(output, overwrite=False):
        pytest.fail("must be refused before any work")


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failure_between_the_two_renames(
    old: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    rename = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(error), staged(old, overwrite=True) as folder:
        (folder / "only").write_text("new")
    assert content(old) == {"inner/file": "old", MANIFEST_NAME: MANIFEST}
    assert list(old.parent.iterdir()) == [old]
