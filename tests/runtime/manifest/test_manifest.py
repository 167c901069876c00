"""The manifest: stable text, and every way it can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.bundle.files import file_entries, verify_files
from samhq_runtime.errors import BundleError
from samhq_runtime.manifest import MANIFEST_NAME, FileEntry, Manifest, read_manifest
from samhq_runtime.manifest.seal import sealed
from tests.support.bundles import unsealed

Change = Callable[[dict[str, Any]], object]


def content_of(bundle: Bundle) -> dict[str, Any]:
    return unsealed(bundle.path)


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
    "older, without a hash": (lambda c: c.update(schema_version=0), "schema 0"),
    "no schema": (lambda c: c.pop("schema_version"), "not a manifest"),
    "unknown key": (lambda c: c.update(colour="red"), "colour"),
    "missing key": (lambda c: c.pop("opset"), "opset"),
    "unknown size": (lambda c: c["sizes"].update(depth=3), "depth"),
    "missing size": (lambda c: c["sizes"].pop("embed_dim"), "embed_dim"),
    "other sizes": (lambda c: c["sizes"].update(embed_dim=128), "export the bundle again"),
    "sizes are text": (lambda c: c["sizes"].update(embedding_size="8"), "export the bundle again"),
    "HQ columns without fusion": (lambda c: c.update(token_fusion="none"), "token fusion none with 5 token masks"),
    "fusion without HQ columns": (lambda c: c["sizes"].update(token_masks=4), "independent with 4 token masks"),
    "another family": (lambda c: c["sizes"].update(family="sam2"), "image_encoder is not the graph"),
    "an unknown family": (lambda c: c["sizes"].update(family="sam9"), "sam9"),
    "more token masks": (lambda c: c["sizes"].update(token_masks=6), "mask_decoder is not the graph"),
    "unknown file key": (lambda c: c["files"]["mask_decoder.onnx"].update(url="x"), "url"),
    "two pixel means": (lambda c: c.update(pixel_mean=[1, 2]), "not a manifest"),
    "mean is text": (lambda c: c.update(pixel_mean="red"), "not a manifest"),
    "means are text": (lambda c: c.update(pixel_mean=["1", "2", "3"]), "pixel_mean: got '1', expected a number"),
    "mean is NaN": (lambda c: c["pixel_mean"].__setitem__(1, float("nan")), "pixel_mean: got nan, expected a number"),
    "deviation of 0": (lambda c: c["pixel_std"].__setitem__(2, 0), "pixel_std: got 0, expected at least"),
    "threshold is text": (lambda c: c.update(mask_threshold="x"), "mask_threshold: got 'x', expected a number"),
    "threshold is true": (lambda c: c.update(mask_threshold=True), "mask_threshold: got True, expected a number"),
    "threshold is infinite": (lambda c: c.update(mask_threshold=float("inf")), "mask_threshold: got inf"),
    "threshold is null": (lambda c: c.update(mask_threshold=None), "mask_threshold: got None"),
    "variant is a number": (lambda c: c.update(variant=3), "variant: got 3, expected str"),
    "precision is a list": (lambda c: c.update(precision=["fp16"]), "precision: got .*, expected str"),
    "fusion is null": (lambda c: c.update(token_fusion=None), "token_fusion: got None, expected str"),
    "opset is text": (lambda c: c.update(opset="20"), "opset: got '20', expected int"),
    "policy is a list": (lambda c: c.update(precision_policy=[]), r"precision_policy: got \[\], expected dict"),
    "policy of a graph is text": (lambda c: c["precision_policy"].update(mask_decoder="fp16"), "mask_decoder: got"),
    "checkpoint is text": (lambda c: c.update(checkpoint="sam.pth"), "checkpoint: got 'sam.pth', expected dict"),
    "checkpoint hash is a number": (lambda c: c["checkpoint"].update(sha256=7), "checkpoint, sha256: got 7"),
    "tools are a list": (lambda c: c.update(tools=["torch"]), "tools: got .*, expected dict"),
    "tool version is a number": (lambda c: c["tools"].update(torch=2.1), "tools, torch: got 2.1, expected str"),
    "parity is a number": (lambda c: c.update(parity=1.0), "parity: got 1.0, expected dict"),
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
        Manifest.from_json(sealed(content))


def test_one_flipped_bit(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """In any byte of the text, spaces and the hash included; what it does to the meaning does not matter."""
    path = tmp_path / MANIFEST_NAME
    data = bytearray((tiny_bundle.path / MANIFEST_NAME).read_bytes())
    last = range(len(data) - 90, len(data))
    for number, position in enumerate((*range(0, len(data), 7), *last)):
        data[position] ^= 1 << number % 8
        path.write_bytes(data)
        with pytest.raises(BundleError):
            read_manifest(tmp_path)
        data[position] ^= 1 << number % 8
    path.write_bytes(data)
    assert read_manifest(tmp_path) == tiny_bundle.manifest


EDITS: dict[str, Callable[[str], str]] = {
    "another mean": lambda text: text.replace("58.395", "58.394"),
    "another order": lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=2),
    "reformatted": lambda text: json.dumps(json.loads(text)),
    "no hash": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "manifest_sha256"}, indent=2),
    "something behind it": lambda text: text + "\n",
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "cut and sealed twice": lambda text: text.removesuffix("\n}\n") + text[text.rindex(",\n") :],
}


@pytest.mark.parametrize("case", EDITS)
def test_an_edited_manifest_is_refused(tiny_bundle: Bundle, tmp_path: Path, case: str) -> None:
    text = (tiny_bundle.path / MANIFEST_NAME).read_text(encoding="utf-8")
    edited = EDITS[case](text)
    assert edited != text
    (tmp_path / MANIFEST_NAME).write_bytes(edited.encode())
    with pytest.raises(BundleError, match=r"manifest\.json: (damaged or changed|.*a name is given twice)"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '"text"', "{}", '{"schema_version": 1}'])
def test_not_a_manifest(text: str) -> None:
    with pytest.raises(BundleError, match=r"export (it|the bundle) again"):
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


@pytest.mark.parametrize("outside", ["../secret", "inner/../../secret", "/etc/hostname", "linked/secret"])
def test_files_outside_the_bundle_are_refused(tiny_bundle: Bundle, tmp_path: Path, outside: str) -> None:
    """Even where file and hash are right."""
    bundle = tmp_path / "bundle"
    (bundle / "inner").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    (bundle / "linked").symlink_to(tmp_path)
    entry = FileEntry(file_entries(tmp_path)["secret"].sha256, 1)
    content = content_of(tiny_bundle)
    content["files"] = {outside: vars(entry)}
    for graph in content["graphs"].values():
        graph["file"] = outside
        graph.pop("cpu_file", None)
    with pytest.raises(BundleError, match="outside the bundle"):
        verify_files(bundle, Manifest.from_json(sealed(content)))


def test_graph_file_must_be_hashed(tiny_bundle: Bundle) -> None:
    content = content_of(tiny_bundle)
    content["graphs"]["mask_decoder"]["file"] = "../mask_decoder.onnx"
    with pytest.raises(BundleError, match="not in its list"):
        verify_files(tiny_bundle.path, Manifest.from_json(sealed(content)))
