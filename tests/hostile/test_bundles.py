"""Graphs that take weights from files which nobody hashed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import set_external_data

from samhq_runtime import Bundle, load_bundle
from samhq_runtime.bundle.external_data import FIELDS, external_files
from samhq_runtime.errors import BundleError
from tests.support.bundles import rehash
from tests.support.disguises import IN_MODEL, TENSOR, field


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


MESSAGES = {
    "ModelProto": "model",
    "TrainingInfoProto": "training",
    "FunctionProto": "function",
    "GraphProto": "graph",
    "NodeProto": "node",
    "AttributeProto": "attribute",
    "SparseTensorProto": "sparse",
    "TensorProto": "tensor",
    "StringStringEntryProto": "entry",
}


def test_every_way_to_a_tensor_is_known() -> None:
    """As onnx itself describes its messages: a later version that adds one fails here."""
    leads = {"TensorProto": {"external_data"}}

    def fields(name: str) -> dict[int, str]:
        described = getattr(onnx, name, None) or getattr(onnx.onnx_pb, name)
        inner = [f for f in described.DESCRIPTOR.fields if f.message_type and f.message_type.name in MESSAGES]
        of_entries = [f for f in inner if f.message_type.name == "StringStringEntryProto"]
        wanted = [f for f in inner if f not in of_entries or f.name in leads.get(name, set())]
        return {f.number: MESSAGES[f.message_type.name] for f in wanted}

    assert {kind: fields(name) for name, kind in MESSAGES.items() if kind != "entry"} == FIELDS


@pytest.mark.parametrize("name", IN_MODEL)
def test_no_disguise_hides_a_tensor(tmp_path: Path, name: str) -> None:
    """Found, or refused as what nobody writes; whatever another parser makes of it."""
    (tmp_path / "graph.onnx").write_bytes(IN_MODEL[name])
    try:
        assert "far.bin" in external_files(tmp_path / "graph.onnx")
    except ValueError as e:
        assert any(word in str(e) for word in ("longer than it need be", "wire type", "field number 0"))  # noqa: PT017


def test_a_disguise_that_the_backend_sees_through(tmp_path: Path) -> None:
    """ONNX Runtime loads such weights; the bundle that has them is refused, whatever its manifest says."""
    onnxruntime = pytest.importorskip("onnxruntime")
    (tmp_path / "far.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    tensor = b"\x08\x04\x10\x01" + TENSOR
    value = onnx.helper.make_tensor_value_info("y", 1, [4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["y"])], "g", [], [value])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    hidden = model.graph.SerializeToString() + field(5, tensor, bits_above=1)
    model.ClearField("graph")
    path = tmp_path / "graph.onnx"
    path.write_bytes(model.SerializeToString() + field(7, hidden))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {})[0], np.arange(4))
    with pytest.raises(ValueError, match="out of range"):
        external_files(path)


def test_a_compiled_model_in_a_node(tmp_path: Path) -> None:
    node = onnx.helper.make_node("EPContext", [], ["y"], domain="com.microsoft", ep_cache_context="far.bin")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [])), tmp_path / "graph.onnx")
    with pytest.raises(ValueError, match="EPContext"):
        external_files(tmp_path / "graph.onnx")


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b", b"\x08", b"\x3a\x7f"])
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(ValueError):  # noqa: PT011
        external_files(tmp_path / "graph.onnx")
