"""Exports that are killed, wherever it falls: the next one finds the output as it was, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from samhq_exporter.bundle.staging import recover, staged
from samhq_runtime.engine.store import staging_folder
from samhq_runtime.errors import ConfigError
from samhq_runtime.leftovers import claimed
from samhq_runtime.manifest import MANIFEST_NAME

WHOLE = '{"schema_version": 1, "graphs": {}, "files": {}, "is": "%s"}'

# A child that dies by SIGKILL at the n-th step of replacing a bundle: moves of folders, and files written or removed.
CHILD = """
import os, shutil, signal, sys
from pathlib import Path
from samhq_exporter.bundle import staging
left = int(sys.argv[2])
def step(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
rename = Path.rename
def counted(self, target):
    step()
    result = rename(self, target)
    step()
    return result
Path.rename = counted
rmtree = shutil.rmtree
def half(path, **options):
    step()
    for entry in sorted(Path(path).iterdir()) if Path(path).exists() else []:
        entry.unlink()
        step()
    rmtree(path, **options)
shutil.rmtree = half
with staging.staged(Path(sys.argv[1]), overwrite=True) as folder:
    for name in ("a.onnx", "b.onnx", "manifest.json"):
        (folder / name).write_text(sys.argv[3])
        step()
"""
STEPS = 12


def killed(output: Path, step: int) -> int:
    """The exit code of the child."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [str(output), str(step), WHOLE % "new"]
    return subprocess.run([sys.executable, "-c", CHILD, *arguments], env=env, check=False).returncode


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("a.onnx", "b.onnx", MANIFEST_NAME):
        (folder / name).write_text(WHOLE % "old")
    return folder


@pytest.mark.parametrize("step", range(STEPS))
def test_killed_at_every_step(output: Path, step: int) -> None:
    """After the next run starts there is the old bundle or the new one, whole, and nothing else."""
    assert killed(output, step) == -9
    with pytest.raises(ConfigError, match="already exists"), staged(output, overwrite=False):
        pass
    assert [path.name for path in output.parent.iterdir()] == ["out"]
    contents = {path.read_text() for path in output.iterdir()}
    assert len(list(output.iterdir())) == 3
    assert contents in ({WHOLE % "old"}, {WHOLE % "new"})


def test_the_steps_are_all_of_them(output: Path) -> None:
    assert killed(output, STEPS) == 0


def test_what_somebody_works_on_stays(output: Path) -> None:
    """Of another process, and of another output whose name begins the same."""
    busy, other = output.parent / ".out.abcdefgh.partial", output.parent / ".out.abcdefgh.more.partial"
    busy.mkdir(), other.mkdir()
    with claimed(busy) as ours:
        assert ours
        recover(output)
        assert busy.is_dir()
    recover(output)
    assert not busy.exists()
    assert other.is_dir()


def test_a_build_of_engines_that_was_killed(output: Path) -> None:
    (output / ".engines.abcdefgh.partial").mkdir()
    with staging_folder(output) as first, staging_folder(output) as second:
        assert {path.name for path in output.glob(".engines.*")} == {first.name, second.name}
    assert not list(output.glob(".engines.*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder another user's")
def test_a_bundle_of_another_user_is_refused_before_the_work(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(output, 12345, 12345)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="belongs to another user"), staged(output, overwrite=True):
        pytest.fail("the work began")
    assert (output / MANIFEST_NAME).read_text() == WHOLE % "old"
