"""Real TensorRT builders on machines without a GPU. Engines are built, never run.

* `tensorrt_rtx` builds ahead of time and needs neither GPU nor driver: `pip install tensorrt-rtx-cu13` is all of it.
* The Python module of TensorRT 11 (`tensorrt-cu13-bindings`) loads the libraries of TensorRT-RTX under TensorRT's file
  names, with a stub for the plugin library, which our graphs do not need. A stand-in: parsing, profiles, building and
  progress work; some newer calls do not, and may crash, hence a child process.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.bundle import load_bundle
from samhq_runtime.contract import GraphSpec
from samhq_runtime.engine.builder import ParsedGraph, parse_graph
from samhq_runtime.engine.flavour import FLAVOURS, TensorRT, load_tensorrt
from samhq_runtime.errors import BackendUnavailable
from samhq_runtime.manifest import file_entries

_STAND_IN_FOR_11_4 = "1.7."
_LIBRARIES = {"libtensorrt_rtx.so.1": "libnvinfer.so.11", "libtensorrt_onnxparser_rtx.so.1": "libnvonnxparser.so.11"}
_STUB = "int initLibNvInferPlugins(void *logger, char const *name) { (void)logger; (void)name; return 1; }\n"


def require_rtx() -> TensorRT:
    """TensorRT-RTX, or skip the test."""
    try:
        return load_tensorrt(FLAVOURS["rtx"])
    except BackendUnavailable as e:
        pytest.skip(f"no real builder: {e} (extra `trt-builder-test`)")


def parse(bundle_path: Path, file: str, spec: GraphSpec) -> ParsedGraph:
    return parse_graph(require_rtx(), bundle_path / file, spec)


def layers_of(graph: ParsedGraph) -> list[Any]:
    return [graph.network.get_layer(i) for i in range(graph.network.num_layers)]


def count_layers(graph: ParsedGraph) -> Counter[tuple[str, str]]:
    """How many layers of each (type, output dtype), as `("NORMALIZATION", "FLOAT")`."""
    return Counter((layer.type.name, layer.get_output(0).dtype.name) for layer in layers_of(graph))


@contextmanager
def unharmed(bundle: Path) -> Iterator[None]:
    """Not a byte of the bundle differs afterwards, and no file was added."""
    before = file_entries(bundle)
    yield
    assert file_entries(bundle) == before
    assert not [path for path in bundle.iterdir() if "partial" in path.name]
    load_bundle(bundle)


def child_environment() -> dict[str, str]:
    """For a child process that imports what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def stand_in_for_tensorrt_11(folder: Path) -> dict[str, str]:
    """The environment of a child process in which `import tensorrt` is TensorRT 11's own Python module; or skip."""
    version = require_rtx().version
    compiler = shutil.which("cc") or shutil.which("gcc")
    if importlib.util.find_spec("tensorrt_bindings") is None:
        pytest.skip("no Python module of TensorRT 11 (extra `trt-builder-test`)")
    if not version.startswith(_STAND_IN_FOR_11_4):
        pytest.skip(f"TensorRT 11.4's module goes with TensorRT-RTX {_STAND_IN_FOR_11_4}, not {version}")
    if compiler is None:
        pytest.skip("no C compiler for the stub of the plugin library")
    for soname, name in _LIBRARIES.items():
        (folder / soname).symlink_to(_library_folder() / soname)
        (folder / name).symlink_to(_library_folder() / soname)
    (folder / "stub.c").write_text(_STUB)
    stub = folder / "libnvinfer_plugin.so.11"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", stub, folder / "stub.c"], check=True)
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt/__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)]),
    }


def _library_folder() -> Path:
    import tensorrt_rtx_libs

    return Path(tensorrt_rtx_libs.__file__).parent
