"""What each part may import, and that the commands answer in environments where nothing else is installed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

import samhq_exporter
import samhq_runtime
from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import build_parser
from samhq_runtime.installing import install_command

SOURCES = [str(Path(package.__file__).parent.parent) for package in (samhq_exporter, samhq_runtime)]
HEAVY = {"torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "PIL", "onnxruntime", "tensorrt", "pycocotools"}
HEAVY |= {"openvino", "matplotlib", "cryptography", "polygraphy"}
HEAVY |= {
    "grpc",
    "grpc_health",
    "grpc_reflection",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "opentelemetry",
    "ray",
    "tritonclient",
    "rasterio",
    "shapely",
    "pyogrio",
}
RUNTIME = Path(samhq_runtime.__file__).parent
# Modules that may import their backend, for which they are named.
SESSIONS = ("ort", "openvino", "openvino_positions", "cuda", "lanes", "trt")
BACKENDS = {f"samhq_runtime.session.{name}" for name in SESSIONS}
SERVE = (
    "access",
    "connections",
    "about",
    "grpc_calls",
    "grpc_server",
    "grpc_standard",
    "http_infer",
    "http_log",
    "http_server",
    "loaded",
    "messages",
    "metrics",
    "otel",
    "runner",
    "service",
    "tls",
    "worker",
)
BACKENDS |= {f"samhq_runtime.serve.{name}" for name in SERVE}
BACKENDS |= {
    "samhq_runtime.bundle.signing",
    "samhq_runtime.debug",
    "samhq_runtime.debug.graph",
    "samhq_runtime.debug.locate",
    "samhq_runtime.debug.sides",
    "samhq_runtime.triton.pipeline",
    "samhq_runtime.fleet.ray_data",
    "samhq_runtime.fleet.ray_serve",
}
MODULES = sorted(
    ".".join(path.relative_to(RUNTIME.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in RUNTIME.rglob("*.py")
    if path.stem != "__main__"
)


def run(code: str, *arguments: str | Path, path: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """`code` in a child with `path` and the standard library alone, or with all of this environment."""
    return subprocess.run(
        [sys.executable, *(["-S"] if path else []), "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or sys.path)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An environment of numpy and our sources."""
    return [linked(tmp_path_factory.mktemp("bare"), "numpy"), *SOURCES]


def linked(site: Path, *packages: str) -> str:
    """A folder where these installed packages are the only ones."""
    installed = Path(np.__file__).parent.parent
    for package in packages:
        for name in (package, f"{package}.libs".replace("PIL", "pillow")):
            if (installed / name).exists():
                (site / name).symlink_to(installed / name)
    return str(site)


def imported(modules: list[str]) -> set[str]:
    """Top-level packages that importing `modules` loads."""
    code = "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1:]]; print(*sys.modules)"
    child = run(code, *modules)
    assert child.returncode == 0, child.stderr
    return {name.partition(".")[0] for name in child.stdout.split()}


def test_runtime_loads_numpy_alone() -> None:
    modules = [module for module in MODULES if module not in BACKENDS]
    assert {"samhq_runtime", "samhq_runtime.cli", "samhq_runtime.session"} <= set(modules)
    assert not imported(modules) & {*HEAVY, "samhq_exporter"}


def test_backend_loads_its_own_package() -> None:
    found = imported(["samhq_runtime.session.ort"]) & {*HEAVY, "samhq_exporter"}
    assert found == {"onnxruntime"}


def test_exporter_and_its_command_load_no_torch() -> None:
    modules = ["samhq_exporter", "samhq_exporter.cli", "samhq_exporter.config", "samhq_exporter.precision.policy"]
    assert not imported(modules) & HEAVY


MAIN = "from {}.cli import main; raise SystemExit(main())"
SAMHQ, EXPORT = MAIN.format("samhq_runtime"), MAIN.format("samhq_exporter")


def commands_of(parser: argparse.ArgumentParser) -> list[str]:
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(action.choices)


@pytest.mark.parametrize("command", commands_of(build_parser()))
def test_help_of_every_command_in_a_bare_environment(bare: list[str], command: str) -> None:
    child = run(SAMHQ, command, "--help", path=bare)
    assert (child.returncode, child.stderr) == (0, "")
    assert f" {command} [-h]" in child.stdout


@pytest.mark.parametrize(("code", "expected"), [(SAMHQ, "predict"), (EXPORT, "--token-fusion")])
def test_help_in_a_bare_environment(bare: list[str], code: str, expected: str) -> None:
    child = run(code, "--help", path=bare)
    assert (child.returncode, child.stderr) == (0, "")
    assert expected in child.stdout


def test_inspect_in_a_bare_environment(bare: list[str], tiny_bundle: Bundle) -> None:
    child = run(SAMHQ, "inspect", tiny_bundle.path, path=bare)
    assert (child.returncode, child.stderr) == (0, "")
    assert "complete and unchanged" in child.stdout


def test_export_without_torch_names_what_to_install(bare: list[str], tmp_path: Path) -> None:
    child = run(EXPORT, "--output", tmp_path / "bundle", path=bare)
    assert_missing(child, f"is missing: {install_command('export,cpu')}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("packages", "complaint"),
    [
        (["numpy"], "Pillow is missing, images are read with it: pip install Pillow"),
        (["numpy", "PIL"], f"onnxruntime is missing: {install_command('cpu')}"),
    ],
)
def test_predict_without_its_packages(tiny_bundle: Bundle, tmp_path: Path, packages: list[str], complaint: str) -> None:
    site = tmp_path / "site"
    site.mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "image.png")
    linked(site, *packages)
    mask = tmp_path / "mask.png"
    arguments = ["predict", tiny_bundle.path, tmp_path / "image.png", "--box", "1,1,9,9", "--output", mask]
    assert_missing(run(SAMHQ, *arguments, path=[str(site), *SOURCES]), complaint)
    assert not mask.exists()


@pytest.mark.parametrize(
    ("command", "missing", "extras"),
    [
        ("serve {bundle}", "is missing", "cpu,serve"),
        (
            "predict {bundle} {folder} --prompts {folder}/prompts.jsonl --output {folder}/out --ray local",
            "ray is missing, --ray needs it",
            "ray",
        ),
    ],
)
def test_commands_without_their_extra_name_it(
    bare: list[str], tiny_bundle: Bundle, tmp_path: Path, command: str, missing: str, extras: str
) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"image": "a.png", "box": [1, 2, 3, 4]}')
    arguments = [word.format(bundle=tiny_bundle.path, folder=tmp_path) for word in command.split()]
    assert_missing(run(SAMHQ, *arguments, path=bare), f"{missing}: {install_command(extras)}")


def test_predict_where_nothing_else_is_installed(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The same mask as here, from numpy, Pillow and ONNX Runtime."""
    site = tmp_path / "site"
    site.mkdir()
    linked(site, "numpy", "PIL", "onnxruntime")
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    prompts = ["--box", "5,6,40,50", "--point", "20,30"]
    arguments = ["predict", tiny_bundle.path, tmp_path / "image.png", *prompts, "--output", tmp_path / "mask.png"]
    child = run(SAMHQ, *arguments, path=[str(site), *SOURCES])
    assert (child.returncode, child.stderr) == (0, "")
    with Predictor(tiny_bundle) as predictor:
        predictor.set_image(pixels)
        masks, _, _ = predictor.predict([[20, 30]], [1], [5, 6, 40, 50], multimask_output=False)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "mask.png")), masks[0] * np.uint8(255))


def test_no_extra_pulls_in_what_must_be_chosen() -> None:
    """A newer torch brings gigabytes of CUDA; onnxruntime and onnxruntime-gpu must not be installed together."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")
    project = tomllib.loads((RUNTIME.parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: [Requirement(r) for r in texts] for name, texts in project["optional-dependencies"].items()}
    assert [Requirement(text).name for text in project["dependencies"]] == ["numpy"]
    holders = {
        package: {extra for extra, found in extras.items() if package in {requirement.name for requirement in found}}
        for package in ("onnxruntime", "onnxruntime-gpu", "torch")
    }
    assert (holders["onnxruntime"], holders["onnxruntime-gpu"]) == ({"cpu"}, {"gpu"})
    assert "export" in holders["torch"]
    for requirement in (r for found in extras.values() for r in found if r.name == "torch"):
        assert not requirement.specifier.contains("2.14.0")
        assert requirement.specifier.contains("2.13.0")


def assert_missing(child: subprocess.CompletedProcess[str], complaint: str) -> None:
    assert (child.returncode, child.stdout) == (1, "")
    assert child.stderr.startswith("error: ")
    assert child.stderr.count("\n") == 1
    assert complaint in child.stderr


BLOCK = """
import sys, importlib.abc
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "onnx_ir", "onnxscript", "samhq_exporter"}:
            raise AssertionError(f"the runtime asked for {name}")
sys.meta_path.insert(0, Blocker())
"""
PREDICT = """
import numpy as np
from samhq_runtime import Predictor
with Predictor(sys.argv[1]) as predictor:
    predictor.set_image(np.load(sys.argv[2]))
    np.save(sys.argv[3], predictor.predict(box=[5, 6, 40, 50], return_logits=True)[0])
"""


def test_runtime_predicts_where_torch_and_onnx_cannot_be_imported(tiny_bundle: Bundle, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    np.save(tmp_path / "image.npy", image)
    child = run(BLOCK + PREDICT, tiny_bundle.path, tmp_path / "image.npy", tmp_path / "logits.npy")
    assert child.returncode == 0, child.stderr
    with Predictor(tiny_bundle) as predictor:
        predictor.set_image(image)
        expected = predictor.predict(box=[5, 6, 40, 50], return_logits=True)[0]
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), expected)
