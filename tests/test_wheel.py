"""The wheel holds both packages, the demo weights and the licence, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    pytest.importorskip("hatchling", reason="builds the wheel with the project's own backend")
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_two_packages_and_their_metadata(names: list[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    (metadata,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"samhq_exporter", "samhq_runtime", metadata}
    assert f"{metadata}/licenses/LICENSE" in names
    assert f"{metadata}/entry_points.txt" in names


@pytest.mark.parametrize(
    "name",
    [
        "samhq_runtime/py.typed",
        "samhq_runtime/on_device/fit_rounded.onnx",
        "samhq_exporter/py.typed",
        "samhq_exporter/demo/sam_hq_demo.safetensors",
    ],
)
def test_files_that_are_not_modules(names: list[str], name: str) -> None:
    assert name in names


@pytest.mark.parametrize("package", ["exporter/samhq_exporter", "runtime/samhq_runtime"])
def test_every_module(names: list[str], package: str) -> None:
    modules = {path.relative_to((ROOT / package).parent).as_posix() for path in (ROOT / package).rglob("*.py")}
    assert modules == {name for name in names if name.startswith(Path(package).name) and name.endswith(".py")}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
