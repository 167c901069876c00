"""What users are told to install is what they can install."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from samhq_runtime import installing
from samhq_runtime.installing import install_command

ROOT = Path(__file__).parents[2]
CALLS = re.compile(r"""install_command\(["']([\w,]+)["']\)|extras="([\w,]+)\"""")
SOURCES = [path for folder in ("exporter", "runtime") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_from_a_checkout() -> None:
    assert shlex.split(install_command("cpu,serve")) == ["python", "-m", "pip", "install", "-e", f"{ROOT}[cpu,serve]"]


def test_from_an_installed_distribution(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installing, "_FOLDER", tmp_path / "site-packages")
    assert install_command("cpu") == "python -m pip install 'samhq-export[cpu]'"


def test_from_a_folder_of_an_odd_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    (folder / "runtime").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    monkeypatch.setattr(installing, "_FOLDER", folder / "runtime")
    assert shlex.split(install_command("cpu"))[-1] == f"{folder}[cpu]"


def test_extras_that_are_named_exist() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {a or b for path in SOURCES for a, b in CALLS.findall(path.read_text(encoding="utf-8"))}
    assert {"cpu,serve", "export,cpu", "hub", "ray"} <= named
    assert {extra for extras in named for extra in extras.split(",")} <= set(known)
