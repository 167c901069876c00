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

import onnx_ir as ir
import pytest

from samhq_exporter.passes.rules import FUSION_NODES
from samhq_runtime.bundle import load_bundle
from samhq_runtime.bundle.files import file_entries
from samhq_runtime.contract import GraphSpec
from samhq_runtime.engine.builder import ParsedGraph, parse_graph
from samhq_runtime.errors import BackendUnavailable
from samhq_runtime.nvidia.flavour import FLAVOURS, TensorRT, load_tensorrt

# The layer that is named like the node, by operator. All that computes; the rest moves or makes values.
LAYER_OF_OPERATOR = {
    **dict.fromkeys(("MatMul", "Gemm"), "MATRIX_MULTIPLY"),
    **dict.fromkeys(("Conv",), "CONVOLUTION"),
    **dict.fromkeys(("ConvTranspose",), "DECONVOLUTION"),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), "ELEMENTWISE"),
    **dict.fromkeys(("Gelu", "Relu"), "ACTIVATION"),
    **dict.fromkeys(("Sin", "Cos"), "UNARY"),
    "Softmax": "SOFTMAX",
    "LayerNormalization": "NORMALIZATION",
}
COMPUTE = frozenset(LAYER_OF_OPERATOR.values()) - {"NORMALIZATION"}
TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
_PLUGINS = {"PLUGIN", "PLUGIN_V2", "PLUGIN_V3"}
_FUSION_OPERATIONS = {"sum": "SUM", "hadamard": "PROD"}
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


def require_same_computation(graph: ParsedGraph, model: ir.Model) -> None:
    """Every computing node of the ONNX graph is one layer of its kind and name; no plugin, no norm taken apart."""
    kinds = {layer.name: layer.type.name for layer in layers_of(graph)}
    nodes = {
        str(node.name): LAYER_OF_OPERATOR[node.op_type] for node in model.graph if node.op_type in LAYER_OF_OPERATOR
    }
    assert graph.parser.num_errors == 0
    assert len(nodes) > 20
    assert {name: kinds.get(name) for name in nodes} == nodes
    assert not (_PLUGINS | {"REDUCE", "EINSUM"}) & set(kinds.values())
    assert list(kinds.values()).count("NORMALIZATION") == list(nodes.values()).count("NORMALIZATION") > 0


def computing(graph: ParsedGraph, dtype: str) -> dict[str, int]:
    """How many layers of each computing kind return `dtype`."""
    return {kind: n for (kind, found), n in sorted(count_layers(graph).items()) if kind in COMPUTE and found == dtype}


def require_fusion(graph: ParsedGraph, token_fusion: str) -> None:
    """The token fusion is one layer of its own name with two operands, or there is none."""
    from tensorrt_rtx import IElementWiseLayer

    elementwise = [layer for layer in layers_of(graph) if layer.type.name == "ELEMENTWISE"]
    found = [layer for layer in elementwise if layer.name.startswith("/token_fusion/")]
    if token_fusion not in FUSION_NODES:
        assert not found
        return
    (layer,) = found
    assert layer.name == FUSION_NODES[token_fusion]
    layer.__class__ = IElementWiseLayer
    assert layer.op.name == _FUSION_OPERATIONS[token_fusion]
    shapes = [tuple(layer.get_input(i).shape) for i in range(layer.num_inputs)]
    assert len(shapes) == 2
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 2
    assert shapes[0][0] == 1


@contextmanager
def unharmed(bundle: Path, *, loads: bool = True) -> Iterator[None]:
    """Not a byte of the bundle differs afterwards, and no file was added; it `loads` as it did."""
    before = file_entries(bundle)
    yield
    assert file_entries(bundle) == before
    assert not [path for path in bundle.iterdir() if "partial" in path.name]
    if loads:
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
