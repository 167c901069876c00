"""Every bad input of the C++ library has its documented status; nothing crashes or leaks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.manifest import MANIFEST_NAME
from tests.support.bundles import change_manifest as change_and_seal
from tests.support.bundles import rehash
from tests.support.cpp_programs import run
from tests.support.disguises import IN_MODEL


def change_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    return lambda bundle: change_and_seal(bundle, change)


def replace_manifest(change: Callable[[str], str]) -> Callable[[Path], None]:
    def tamper(bundle: Path) -> None:
        path = bundle / MANIFEST_NAME
        path.write_text(change(path.read_text()))

    return tamper


def list_file(name: str) -> Callable[[Path], None]:
    return change_manifest(lambda m: m["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))


def flip_bit(bundle: Path) -> None:
    content = bytearray((bundle / "mask_decoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "mask_decoder.onnx").write_bytes(content)


def links_to_a_cache(bundle: Path) -> None:
    blobs = bundle.parent / "blobs"
    blobs.mkdir()
    for number, path in enumerate(list(bundle.iterdir())):
        shutil.move(path, blobs / str(number))
        path.symlink_to(f"../blobs/{number}")


def link_to_nothing(bundle: Path) -> None:
    (bundle / "mask_decoder.onnx").unlink()
    (bundle / "mask_decoder.onnx").symlink_to(".git/annex/objects/x")


def swap_graphs(bundle: Path) -> None:
    (bundle / "mask_decoder.cpu.onnx").rename(bundle / "other.onnx")
    (bundle / "image_encoder.cpu.onnx").rename(bundle / "mask_decoder.cpu.onnx")
    (bundle / "other.onnx").rename(bundle / "image_encoder.cpu.onnx")
    rehash(bundle)


def linked_subfolder(bundle: Path) -> None:
    (bundle / "inner").symlink_to(bundle.parent)
    (bundle.parent / "secret").write_bytes(b"1")
    list_file("inner/secret")(bundle)


def cut(part: float) -> Callable[[Path], None]:
    """The first `part` of the decoder that a CPU runs, with a hash that fits."""

    def tamper(bundle: Path) -> None:
        data = (bundle / "mask_decoder.cpu.onnx").read_bytes()
        (bundle / "mask_decoder.cpu.onnx").write_bytes(data[: int(part * len(data))])
        rehash(bundle)

    return tamper


def unreadable(bundle: Path) -> None:
    """A file that is listed, and of its size, but that the system cannot read, whoever asks."""
    (bundle / "extra").symlink_to("/proc/self/mem")
    change_and_seal(bundle, lambda m: m["files"].update(extra={"sha256": "0" * 64, "bytes": 0}))


def graph_of(content: bytes) -> Callable[[Path], None]:
    def tamper(bundle: Path) -> None:
        (bundle / "mask_decoder.cpu.onnx").write_bytes(content)
        rehash(bundle)

    return tamper


_DAMAGED = "SAMHQ_ERROR_BUNDLE_DAMAGED"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "intact": (lambda bundle: None, "SAMHQ_OK"),
    "another family": (change_manifest(lambda m: m["sizes"].update(family="sam9")), "SAMHQ_ERROR_CONTRACT"),
    "another family's graphs": (change_manifest(lambda m: m["sizes"].update(family="sam2")), "SAMHQ_ERROR_CONTRACT"),
    "no folder": (lambda bundle: shutil.rmtree(bundle), "SAMHQ_ERROR_BUNDLE_MISSING"),
    "no manifest": (lambda bundle: (bundle / MANIFEST_NAME).unlink(), "SAMHQ_ERROR_BUNDLE_MISSING"),
    "no graph file": (lambda bundle: (bundle / "mask_decoder.onnx").unlink(), "SAMHQ_ERROR_BUNDLE_MISSING"),
    "empty manifest": (replace_manifest(lambda text: ""), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "truncated": (replace_manifest(lambda text: text[: len(text) // 2]), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "deep": (replace_manifest(lambda text: '{"a":' * 100_000), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "deep lists": (replace_manifest(lambda text: "[" * 100_000), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "large": (replace_manifest(lambda text: text + " " * (4 << 20)), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "key twice": (
        replace_manifest(lambda text: text.replace("{", '{"variant": "a",', 1)),
        "SAMHQ_ERROR_BUNDLE_INVALID",
    ),
    "no key": (change_manifest(lambda m: m.pop("pixel_mean")), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "NaN": (change_manifest(lambda m: m.update(mask_threshold=float("nan"))), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "another type": (change_manifest(lambda m: m.update(files=[])), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "huge size": (change_manifest(lambda m: m["sizes"].update(image_size=10**18)), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "negative size": (change_manifest(lambda m: m["sizes"].update(embed_dim=-64)), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "unlisted CPU form": (
        change_manifest(lambda m: m["files"].pop("mask_decoder.cpu.onnx")),
        "SAMHQ_ERROR_BUNDLE_INVALID",
    ),
    "unlisted graph": (change_manifest(lambda m: m["files"].pop("mask_decoder.onnx")), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "newer schema": (change_manifest(lambda m: m.update(schema_version=2)), "SAMHQ_ERROR_BUNDLE_SCHEMA"),
    "parent": (list_file("../outside"), "SAMHQ_ERROR_BUNDLE_UNSAFE"),
    "absolute": (list_file("/etc/passwd"), "SAMHQ_ERROR_BUNDLE_UNSAFE"),
    "links to a cache": (links_to_a_cache, "SAMHQ_OK"),
    "link to nothing": (link_to_nothing, "SAMHQ_ERROR_BUNDLE_MISSING"),
    "another mean": (replace_manifest(lambda text: text.replace("58.395", "58.394")), _DAMAGED),
    "no hash of itself": (replace_manifest(lambda text: text.replace("manifest_sha", "Manifest_sha")), _DAMAGED),
    "something behind it": (replace_manifest(lambda text: text + " "), _DAMAGED),
    "flipped bit": (flip_bit, _DAMAGED),
    "shortened": (lambda bundle: (bundle / "preview.png").write_bytes(b""), _DAMAGED),
    "unreadable": (unreadable, "SAMHQ_ERROR_BUNDLE_UNREADABLE"),
    "other sizes": (change_manifest(lambda m: m["sizes"].update(embed_dim=32)), "SAMHQ_ERROR_CONTRACT"),
    "swapped graphs": (swap_graphs, "SAMHQ_ERROR_CONTRACT"),
    "manifest is a folder": (
        lambda bundle: [(bundle / MANIFEST_NAME).unlink(), (bundle / MANIFEST_NAME).mkdir()],
        "SAMHQ_ERROR_BUNDLE_MISSING",
    ),
    "path is a file": (
        lambda bundle: [shutil.rmtree(bundle), bundle.write_text("a file")],
        "SAMHQ_ERROR_BUNDLE_MISSING",
    ),
    "linked subfolder": (linked_subfolder, "SAMHQ_ERROR_BUNDLE_UNSAFE"),
    "not UTF-8": (lambda bundle: (bundle / MANIFEST_NAME).write_bytes(b"\xff\xfe\x00{"), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "unlisted second form": (
        change_manifest(lambda m: m["graphs"]["image_encoder"].update(cpu_file="other.onnx")),
        "SAMHQ_ERROR_BUNDLE_INVALID",
    ),
    "second form outside": (
        change_manifest(lambda m: m["graphs"]["image_encoder"].update(cpu_file="../outside.onnx")),
        "SAMHQ_ERROR_BUNDLE_INVALID",
    ),
    "HQ columns without fusion": (
        change_manifest(lambda m: m.update(token_fusion="none")),
        "SAMHQ_ERROR_BUNDLE_INVALID",
    ),
    "input removed": (
        change_manifest(lambda m: m["graphs"]["mask_decoder"]["inputs"].pop()),
        "SAMHQ_ERROR_CONTRACT",
    ),
    "cut to nothing": (cut(0), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "cut in the middle": (cut(0.5), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "cut at the end": (cut(0.99), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "no graph": (graph_of(b"no graph"), "SAMHQ_ERROR_BUNDLE_INVALID"),
    "an empty graph": (graph_of(b"\x08\x08"), "SAMHQ_ERROR_BACKEND"),
    "weights from an unlisted file": (graph_of(IN_MODEL["plain"]), "SAMHQ_ERROR_BUNDLE_UNSAFE"),
}


def test_misuse_and_broken_bundles_have_their_status(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """abi.c checks bad prompts, images and arguments by itself; a leak or a stray access would end it, too."""
    folders = [tmp_path / str(number) / "bundle" for number in range(len(BROKEN))]
    for folder, (tamper, _) in zip(folders, BROKEN.values(), strict=True):
        shutil.copytree(tiny_bundle.path, folder)
        tamper(folder)
    lines = run([programs / "abi", tiny_bundle.path, *folders]).splitlines()
    got = {name: line.partition(" ")[0] for name, line in zip(BROKEN, lines, strict=True)}
    assert got == {name: status for name, (_, status) in BROKEN.items()}
    assert all(line.partition(" ")[2] for line in lines if not line.startswith("SAMHQ_OK"))
    assert "cannot be read (Input/output error)" in lines[list(BROKEN).index("unreadable")]


def test_every_library_that_failed_to_load_is_named(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Each candidate with its own reason, also where the loader only names what the library needs."""
    if subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout.count("libonnxruntime.so"):
        pytest.skip("ONNX Runtime is installed for all programs here")
    (tmp_path / "libonnxruntime.so").write_text("no library")
    (tmp_path / "image.ppm").write_bytes(b"P6 1 1 255\n123")
    program = programs / "samhq" / "examples" / "segment_c"
    command = [program, tiny_bundle.path, tmp_path / "image.ppm", "0", "0", tmp_path / "mask"]
    env = {**os.environ, "SAMHQ_ONNXRUNTIME": "", "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "libonnxruntime.so.1: cannot open shared object file" in done.stderr
    assert f"libonnxruntime.so: {tmp_path / 'libonnxruntime.so'}: file too short" in done.stderr


def test_misuse_of_a_plain_sam(programs: Path, plain_bundle: Bundle) -> None:
    """The same checks; and there is no HQ token to replace, or to use alone."""
    run([programs / "abi", plain_bundle.path])


def test_manifest_fuzz(programs: Path, tiny_bundle: Bundle) -> None:
    parsed = int(run([programs / "internals", "fuzz", tiny_bundle.path / MANIFEST_NAME, "3000"]))
    assert 0 < parsed < 3000
