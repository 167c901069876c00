"""The manifest: stable text, and every way it can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.errors import BundleError
from samhq_runtime.manifest import MANIFEST_NAME, FileEntry, Manifest, file_entries, read_manifest, verify_files

Change = Callable[[dict[str, Any]], object]


def content_of(bundle: Bundle) -> dict[str, Any]:
    return json.loads((bundle.path / MANIFEST_NAME).read_text(encoding="utf-8"))


def test_round_trip_is_exact_to_the_byte(tiny_bundle: Bundle) -> None:
    written = (tiny_bundle.path / MANIFEST_NAME).read_bytes()
    manifest = Manifest.from_json(written.decode())
    assert manifest == tiny_bundle.manifest
    assert manifest.to_json().encode() == written


def test_files_cover_all_but_the_manifest(tiny_bundle: Bundle) -> None:
    on_disk = {path.name for path in tiny_bundle.path.iterdir()}
    assert tiny_bundle.manifest.files.keys() == on_disk - {MANIFEST_NAME}
    entries = file_entries(tiny_bundle.path)
    assert {name: entries[name] for name in tiny_bundle.manifest.files} == tiny_bundle.manifest.files
    assert list(entries) == sorted(entries)


def _io(graph: str, kind: str, index: int, **change: object) -> Change:
    return lambda content: content["graphs"][graph][kind][index].update(change)


BAD_CONTENT: dict[str, tuple[Change, str]] = {
    "newer schema": (lambda c: c.update(schema_version=2), "schema 2"),
    "no schema": (lambda c: c.pop("schema_version"), "not a manifest"),
    "unknown key": (lambda c: c.update(colour="red"), "colour"),
    "missing key": (lambda c: c.pop("opset"), "opset"),
    "unknown size": (lambda c: c["sizes"].update(depth=3), "depth"),
    "missing size": (lambda c: c["sizes"].pop("embed_dim"), "embed_dim"),
    "other sizes": (lambda c: c["sizes"].update(embed_dim=128), "export the bundle again"),
    "sizes are text": (lambda c: c["sizes"].update(embedding_size="8"), "export the bundle again"),
    "HQ columns without fusion": (lambda c: c.update(token_fusion="none"), "token fusion none with 5 token masks"),
    "fusion without HQ columns": (lambda c: c["sizes"].update(token_masks=4), "independent with 4 token masks"),
    "more token masks": (lambda c: c["sizes"].update(token_masks=6), "mask_decoder is not the graph"),
    "unknown file key": (lambda c: c["files"]["mask_decoder.onnx"].update(url="x"), "url"),
    "two pixel means": (lambda c: c.update(pixel_mean=[1, 2]), "not a manifest"),
    "mean is text": (lambda c: c.update(pixel_mean="red"), "not a manifest"),
    "graphs are a list": (lambda c: c.update(graphs=[]), "not a manifest"),
    "a graph without file": (lambda c: c["graphs"]["mask_decoder"].pop("file"), "file"),
    "a graph less": (lambda c: c["graphs"].pop("mask_decoder"), "mask_decoder is not the graph"),
    "input renamed": (_io("mask_decoder", "inputs", 2, name="points"), "mask_decoder is not the graph"),
    "input of another dtype": (_io("image_encoder", "inputs", 0, dtype="uint8"), "image_encoder is not the graph"),
    "half of the half": (_io("image_encoder", "outputs", 0, dtype="float16"), "image_encoder is not the graph"),
    "output of another shape": (_io("mask_decoder", "outputs", 1, shape=["prompts", 3]), "mask_decoder is not"),
    "input gone": (lambda c: c["graphs"]["mask_decoder"]["inputs"].pop(), "mask_decoder is not the graph"),
    "input now required": (_io("mask_decoder", "inputs", -1, optional=False), "mask_decoder is not the graph"),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_bad_content(tiny_bundle: Bundle, case: str) -> None:
    change, complaint = BAD_CONTENT[case]
    content = content_of(tiny_bundle)
    change(content)
    with pytest.raises(BundleError, match=complaint):
        Manifest.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "{}", '{"schema_version": 1}'])
def test_not_a_manifest(text: str) -> None:
    with pytest.raises(BundleError, match="export the bundle again"):
        Manifest.from_json(text)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00{", b"\x00" * 9])
def test_not_text(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(data)
    with pytest.raises(BundleError):
        read_manifest(tmp_path)


def test_nested_beyond_reason(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text("[" * 200_000)
    with pytest.raises(BundleError):
        read_manifest(tmp_path)


@pytest.mark.parametrize("outside", ["../secret", "inner/../../secret", "/etc/hostname", "link", "linked/secret"])
def test_files_outside_the_bundle_are_refused(tiny_bundle: Bundle, tmp_path: Path, outside: str) -> None:
    """Even where file and hash are right."""
    bundle = tmp_path / "bundle"
    (bundle / "inner").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    (bundle / "link").symlink_to(secret)
    (bundle / "linked").symlink_to(tmp_path)
    entry = FileEntry(file_entries(tmp_path)["secret"].sha256, 1)
    content = content_of(tiny_bundle)
    content["files"] = {outside: vars(entry)}
    for graph in content["graphs"].values():
        graph["file"] = outside
        graph.pop("cpu_file", None)
    with pytest.raises(BundleError, match="outside the bundle"):
        verify_files(bundle, Manifest.from_json(json.dumps(content)))


def test_graph_file_must_be_hashed(tiny_bundle: Bundle) -> None:
    content = content_of(tiny_bundle)
    content["graphs"]["mask_decoder"]["file"] = "../mask_decoder.onnx"
    with pytest.raises(BundleError, match="not in its list"):
        verify_files(tiny_bundle.path, Manifest.from_json(json.dumps(content)))
