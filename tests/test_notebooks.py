"""The notebooks run: their code in a plain Python, and as they are in Jupyter where that is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from samhq_runtime import Bundle

NOTEBOOKS = sorted((Path(__file__).parent.parent / "docs" / "notebooks").glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def surroundings(bundle: Bundle) -> dict[str, str]:
    return {"SAMHQ_BUNDLE": str(bundle.path), "PYTHONPATH": os.pathsep.join(sys.path)}


def cells(notebook: Path) -> list[dict[str, object]]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@each_notebook
def test_code_runs(notebook: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    code = "\n".join("".join(cell["source"]) for cell in cells(notebook))  # type: ignore[arg-type]
    env = {**os.environ, **surroundings(tiny_bundle)}
    child = subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


@each_notebook
def test_runs_in_jupyter(notebook: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="Jupyter is not installed")
    client = pytest.importorskip("nbclient", reason="Jupyter is not installed")
    for name, value in surroundings(tiny_bundle).items():
        monkeypatch.setenv(name, value)
    content = nbformat.read(notebook, as_version=4)
    client.NotebookClient(content, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()


@each_notebook
def test_is_kept_without_results(notebook: Path) -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(notebook))
