"""Graphs that take weights from files which nobody hashed."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import set_external_data

from samhq_runtime import Bundle, load_bundle
from samhq_runtime.bundle.external_data import external_files
from samhq_runtime.errors import BundleError
from tests.support.bundles import rehash


@pytest.mark.parametrize(
    "location",
    ["unlisted.bin", "../outside.bin", "/etc/hostname", "link.bin", "..\\outside.bin", "sub/weights.bin", ""],
)
def test_weights_come_from_hashed_files_alone(tiny_bundle: Bundle, tmp_path: Path, location: str) -> None:
    """Refused by us, whatever the backend would do; tampering that keeps every recorded hash right included."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle.path, folder)
    for path in (folder / "unlisted.bin", tmp_path / "outside.bin"):
        path.write_bytes(bytes(1 << 16))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    graph = onnx.load(folder / "mask_decoder.onnx", load_external_data=False)
    point_elsewhere(graph, location)
    onnx.save(graph, folder / "mask_decoder.onnx")
    rehash(folder)
    with pytest.raises(BundleError, match="refused, it takes weights from"):
        load_bundle(folder)


def point_elsewhere(graph: onnx.ModelProto, location: str) -> None:
    tensor = next(t for t in graph.graph.initializer if t.raw_data or t.external_data)
    tensor.ClearField("raw_data")
    tensor.raw_data = b"0"  # the helper wants some
    set_external_data(tensor, location or "x")
    tensor.ClearField("raw_data")
    if not location:
        tensor.external_data[0].value = ""


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph", "function", "sparse"])
def test_tensors_are_found_wherever_they_stand(tmp_path: Path, where: str) -> None:
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="far.bin")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "outer", [], []))
    if where == "initializer":
        model.graph.initializer.append(tensor)
    elif where == "attribute":
        model.graph.node.append(constant)
    elif where == "subgraph":
        model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner))
    elif where == "function":
        model.functions.append(onnx.helper.make_function("d", "f", [], [], [constant], []))
    else:
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    onnx.save(model, tmp_path / "graph.onnx")
    assert external_files(tmp_path / "graph.onnx") == {"far.bin"}


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b"])
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011
        external_files(tmp_path / "graph.onnx")
