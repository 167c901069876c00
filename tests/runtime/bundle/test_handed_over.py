"""Bundles as caches, version control and downloads leave them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from samhq_runtime import Bundle, Predictor, load_bundle
from samhq_runtime.cli import main
from samhq_runtime.errors import BundleError
from samhq_runtime.manifest import MANIFEST_NAME, Manifest, printable
from samhq_runtime.manifest.seal import sealed
from tests.support.bundles import change_manifest, rehash, unsealed
from tests.support.fuzz import ENGINE
from tests.support.serving import IMAGE

BOX = [5, 6, 40, 50]
WEIGHTS = "image_encoder.onnx.data"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


def answer(bundle: Bundle | Path, **options: Any) -> NDArray[np.float32]:
    with Predictor(bundle, threads=1, **options) as predictor:
        predictor.set_image(IMAGE)
        return predictor.predict(box=BOX)[2]


def as_links(bundle: Path, folder: Path, name_of: Callable[[int], str]) -> Path:
    """The same bundle, its files links to others elsewhere, as content-addressed stores do."""
    links, store = folder / "snapshots" / "rev", folder / "blobs"
    links.mkdir(parents=True)
    store.mkdir()
    for number, path in enumerate(sorted(bundle.iterdir())):
        target = store / name_of(number)
        shutil.copyfile(path, target)
        (links / path.name).symlink_to(os.path.relpath(target, links))
    return links


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_a_bundle_of_links(tiny_bundle: Bundle, tmp_path: Path, provider: str) -> None:
    """Of the Hugging Face cache, DVC, git-annex and Bazel; OpenVINO follows none out of the folder by itself."""
    if provider == "openvino":
        pytest.importorskip("openvino")
    links = as_links(tiny_bundle.path, tmp_path, lambda number: f"{number:064x}")
    np.testing.assert_array_equal(answer(links, providers=(provider,)), answer(tiny_bundle, providers=(provider,)))
    assert main(["inspect", str(links)]) == 0


def _link_to(target: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        path.symlink_to(str(target(path)))

    return change


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "not fetched by git-annex": (WEIGHTS, _link_to(lambda p: ".git/annex/objects/x"), "link to '.git/annex.*git annex"),
    "a link to a device": (WEIGHTS, _link_to(lambda p: "/dev/zero"), "/dev/zero', which is no file"),
    "a link to itself": (WEIGHTS, _link_to(lambda p: p.name), f"{WEIGHTS} is missing"),
    "a link to another file": (WEIGHTS, _link_to(lambda p: "/etc/hostname"), "damaged or changed"),
    "a pipe": (WEIGHTS, _fifo, "it is no file"),
    "a folder": (WEIGHTS, lambda p: (p.unlink(), p.mkdir()), "it is no file"),
    "a Git LFS pointer": (WEIGHTS, _rewrite(lambda b: POINTER), "Git LFS pointer.*git lfs pull"),
    "the manifest is one": (MANIFEST_NAME, _rewrite(lambda b: POINTER), "json: a Git LFS pointer.*git lfs pull"),
    "a web page": (WEIGHTS, _rewrite(lambda b: PAGE), "web page"),
    "the manifest is one, too": (MANIFEST_NAME, _rewrite(lambda b: PAGE), "json: a web page"),
    "empty": (WEIGHTS, _rewrite(lambda b: b""), "data: empty; copy"),
    "an empty manifest": (MANIFEST_NAME, _rewrite(lambda b: b""), "json: empty; copy"),
    "an empty graph": ("mask_decoder.onnx", _rewrite(lambda b: b""), "onnx: empty; copy"),
    "zeros": (WEIGHTS, _rewrite(lambda b: bytes(len(b))), "zeros only"),
    "cut off": (WEIGHTS, _rewrite(lambda b: b[:-7]), "cut off after"),
    "a cut manifest": (MANIFEST_NAME, _rewrite(lambda b: b[:-70]), "not a manifest"),
    "one bit": (WEIGHTS, _rewrite(lambda b: b[:-1] + bytes([b[-1] ^ 1])), "damaged or changed.*copy it again"),
    "line endings of the manifest": (
        MANIFEST_NAME,
        _rewrite(lambda b: b.replace(b"\n", b"\r\n")),
        "line endings.*core.autocrlf",
    ),
    "UTF-16": (MANIFEST_NAME, _rewrite(lambda b: b.decode().encode("utf-16")), "cannot be read"),
    "a manifest without end": (MANIFEST_NAME, _rewrite(lambda b: b" " * (5 << 20)), "too many for a manifest"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="has neither pipes nor links for everybody")
@pytest.mark.parametrize("case", DAMAGE)
def test_files_are_named_as_what_they_are(copy: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, change, complaint = DAMAGE[case]
    change(copy / name)
    with pytest.raises(BundleError, match=complaint):
        load_bundle(copy)
    assert main(["inspect", str(copy)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_line_endings_of_a_listed_file(copy: Path) -> None:
    (copy / "notes.txt").write_bytes(b"one\ntwo\n")
    change_manifest(copy, lambda content: content["files"].update({"notes.txt": {"sha256": "0" * 64, "bytes": 8}}))
    rehash(copy)
    load_bundle(copy)
    (copy / "notes.txt").write_bytes(b"one\r\ntwo\r\n")
    with pytest.raises(BundleError, match=r"line endings.*autocrlf"):
        load_bundle(copy)


def _set(*path: str | int, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> None:
        *way, last = path
        holder: Any = content
        for key in way:
            holder = holder[key]
        holder[last] = value

    return change


ENGINE_KEY = ("engines", "e")
FIELDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "escapes in a tool": (_set("tools", "torch", value="\x1b[31mred"), r"'\\x1b\[31mred', expected printable"),
    "escapes in a key": (_set("tools", "\x1b[2J", value="1"), r"expected printable"),
    "C1 escapes": (_set("variant", value="\x9b31m"), "expected printable"),
    "a schema of escapes": (_set("schema_version", value="\x1b[2J"), "expected printable"),
    "NUL in a name": (_set("files", "a\0b", value={"sha256": "0" * 64, "bytes": 1}), "expected printable"),
    "half a pair": (_set("checkpoint", "file", value="\ud800"), "expected printable"),
    "a line separator": (_set("checkpoint", "file", value="a\u2028b"), "expected printable"),
    "a long text": (_set("variant", value="x" * 5000), "at most 4096"),
    "10^400": (_set("opset", value=10**400), "expected a number, finite"),
    "10^400 pixels": (_set("pixel_mean", 0, value=10**400), "expected a number, finite"),
    "infinity that nothing reads": (_set("parity", "ties", value=float("inf")), "expected a number, finite"),
    "a deviation that float32 has as 0": (_set("pixel_std", 0, value=1e-320), "expected at least"),
    "bytes are negative": (_set("files", WEIGHTS, "bytes", value=-1), "bytes: got -1"),
    "bytes are true": (_set("files", WEIGHTS, "bytes", value=True), "bytes: got True, expected int"),
    "bytes are a float": (_set("files", WEIGHTS, "bytes", value=1.0), "bytes: got 1.0, expected int"),
    "a short hash": (_set("files", WEIGHTS, "sha256", value="abc"), "expected a SHA-256"),
    "a file without a name": (_set("files", "", value={"sha256": "0" * 64, "bytes": 1}), "expected a path"),
    "a name of Windows": (_set("files", "..\\x", value={"sha256": "0" * 64, "bytes": 1}), "expected a path"),
    "a graph's file is a number": (_set("graphs", "mask_decoder", "file", value=3), "file: got 3, expected str"),
    "a second form is null": (_set("graphs", "mask_decoder", "cpu_file", value=None), "cpu_file: got None"),
    "sizes are floats": (_set("sizes", "image_size", value=128.0), "image_size: got 128.0, expected int"),
    "a size of 0": (_set("sizes", "embed_dim", value=0), "embed_dim: got 0, expected 1 to"),
    "optional is 1": (_set("graphs", "mask_decoder", "inputs", 8, "optional", value=1), "expected true or false"),
    "a dimension is a float": (_set("graphs", "mask_decoder", "inputs", 0, "shape", 1, value=64.0), "expected int"),
    "islands are text": (_set("precision_policy", "mask_decoder", "fp32_islands", value="all"), "expected a list"),
    "islands are numbers": (_set("precision_policy", "mask_decoder", "fp32_islands", value=[1]), "expected str"),
    "IoU is text": (_set("parity", "mask_iou", "hq", value="1.0"), "expected a number"),
    "errors are a list": (_set("parity", "tensors", value=[]), "tensors: got .*, expected dict"),
    "an error without its size": (_set("parity", "tensors", "hq_features", value={}), "missing .*relative"),
    "an engine is text": (_set(*ENGINE_KEY, value="x"), "expected dict"),
    "an engine of another graph": (_set(*ENGINE_KEY, "graph", value="x"), "engine .*of 'x'"),
    "an engine of another library": (_set(*ENGINE_KEY, "flavour", value="cudnn"), "tensorrt or rtx"),
    "a capability is a word": (_set(*ENGINE_KEY, "compute_capability", value="new"), "such as 8.9"),
    "profiles are a dictionary": (_set(*ENGINE_KEY, "profiles", value={}), "expected a list"),
    "a profile of another rank": (_set(*ENGINE_KEY, "profiles", 0, "point_coords", "min", value=[1]), "shapes of an"),
    "a profile upside down": (_set(*ENGINE_KEY, "profiles", 0, "point_coords", "min", value=[9, 1, 2]), "shapes of an"),
    "a profile of nothing": (_set(*ENGINE_KEY, "profiles", 0, value={"x": {}}), "missing"),
    "a flag is a dictionary": (_set(*ENGINE_KEY, "flags", "x", value={}), "expected true, false"),
    "fixed inputs are text": (_set(*ENGINE_KEY, "fixed_inputs", value="hq_token"), "expected a list"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_every_field_is_checked_when_it_is_read(tiny_bundle: Bundle, case: str) -> None:
    change, complaint = FIELDS[case]
    content = {**unsealed(tiny_bundle.path), "engines": {"e": json.loads(json.dumps(ENGINE))}}
    Manifest.from_json(sealed(content))
    change(content)
    with pytest.raises(BundleError, match=complaint) as error:
        Manifest.from_json(sealed(content))
    assert printable(str(error.value)) == str(error.value)


def test_two_values_of_one_name(tiny_bundle: Bundle) -> None:
    text = (tiny_bundle.path / MANIFEST_NAME).read_text().replace('"opset"', '"opset": 3,\n  "opset"')
    with pytest.raises(BundleError, match="given twice"):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    "name", ["n\nl.pth", "\x1b[31m.pth", "plain.pth", "\u3000\u00e9.pth"], ids=["line", "escape", "plain", "letters"]
)
def test_names_of_files_are_written_so_that_they_can_be_read(name: str) -> None:
    shown = printable(name)
    assert printable(shown) == shown
    assert (shown == name) is name.isprintable() or "\u3000" in name


def test_a_graph_that_is_whole_and_fails(copy: Path) -> None:
    """Its hash and its contract are right; what it computes is impossible."""
    for path in copy.glob("mask_decoder*.onnx"):
        model = onnx.load(path, load_external_data=False)
        node = next(n for n in model.graph.node if "iou_predictions" in n.output)
        node.output[:] = ["scores" if name == "iou_predictions" else name for name in node.output]
        model.graph.initializer.append(onnx.helper.make_tensor("more", onnx.TensorProto.INT64, [2], [1, 0]))
        steps = (("Shape", ["scores"], "shape"), ("Add", ["shape", "more"], "far"))
        for kind, inputs, output in (*steps, ("Reshape", ["scores", "far"], "iou_predictions")):
            model.graph.node.append(onnx.helper.make_node(kind, inputs, [output]))
        path.write_bytes(model.SerializeToString())
    rehash(copy)
    with pytest.raises(BundleError, match="mask_decoder: ONNX Runtime cannot run it"):
        answer(copy)
