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
from tests.support.manifest_fields import ENGINE, FIELDS
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
