"""A bundle on disk: whole and unchanged, or refused before a graph is run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import BackendUnavailable, BundleError, ConfigError, ContractError, SamHqError
from samhq_runtime.manifest import MANIFEST_NAME
from samhq_runtime.session import open_session
from tests.support.bundles import rehash


def test_copy_and_extra_files_are_fine(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    bundle = load_bundle(str(copy))
    for graph in (IMAGE_ENCODER, MASK_DECODER):
        with bundle.open(graph, threads=1) as session:
            assert session.spec.name == graph


def test_one_flipped_bit_in_any_file(tiny_bundle: Bundle, copy: Path) -> None:
    for name in tiny_bundle.manifest.files:
        path = copy / name
        data = bytearray(path.read_bytes())
        for position in (0, len(data) // 2, len(data) - 1):
            data[position] ^= 1
            path.write_bytes(data)
            with pytest.raises(BundleError, match=f"{name}: damaged"):
                load_bundle(copy)
            data[position] ^= 1
        path.write_bytes(data)
    load_bundle(copy)


def test_any_file_missing_or_cut(tiny_bundle: Bundle, copy: Path) -> None:
    for name in tiny_bundle.manifest.files:
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data[:-1])
        with pytest.raises(BundleError, match="damaged"):
            load_bundle(copy)
        (copy / name).unlink()
        with pytest.raises(BundleError, match=f"{name} is missing"):
            load_bundle(copy)
        (copy / name).write_bytes(data)


BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda b: (b / MANIFEST_NAME).unlink(), "manifest.json is missing"),
    "manifest is a folder": (lambda b: [(b / MANIFEST_NAME).unlink(), (b / MANIFEST_NAME).mkdir()], "is missing"),
    "no folder": (shutil.rmtree, "no such folder"),
    "a file": (lambda b: [shutil.rmtree(b), b.write_text("x")], "no such folder"),
    "empty folder": (lambda b: [shutil.rmtree(b), b.mkdir()], "is missing"),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_not_a_bundle(copy: Path, case: str) -> None:
    damage, complaint = BAD_FOLDERS[case]
    damage(copy)
    with pytest.raises(BundleError, match=complaint):
        load_bundle(copy)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_truncated_graph_with_a_fitting_hash(copy: Path, keep: float) -> None:
    path = copy / "mask_decoder.cpu.onnx"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    rehash(copy)
    with pytest.raises(SamHqError, match=r"mask_decoder\.cpu\.onnx"):
        load_bundle(copy).open(MASK_DECODER)


def test_the_other_graph_in_its_place(copy: Path) -> None:
    shutil.copy(copy / "image_encoder.cpu.onnx", copy / "mask_decoder.cpu.onnx")
    rehash(copy)
    with pytest.raises(ContractError, match=r"mask_decoder\.cpu\.onnx: inputs are"):
        load_bundle(copy).open(MASK_DECODER)


@pytest.mark.parametrize(
    ("providers", "error", "complaint"),
    [
        ((), ConfigError, "none given"),
        (("gpu",), ConfigError, "unknown provider gpu"),
        (("CPUExecutionProvider",), ConfigError, "unknown provider"),
        (("cuda",), BackendUnavailable, r"cuda is not in this onnxruntime.*\[gpu\]"),
        (("cuda", "cpu"), BackendUnavailable, "cuda is not in"),  # never a silent fallback
        (("tensorrt", "cpu"), BackendUnavailable, "tensorrt is not in"),
    ],
)
def test_providers(tiny_bundle: Bundle, providers: tuple[str, ...], error: type[Exception], complaint: str) -> None:
    import onnxruntime

    if error is BackendUnavailable and len(onnxruntime.get_available_providers()) > 2:
        pytest.skip("this onnxruntime has GPU providers")
    with pytest.raises(error, match=complaint):
        tiny_bundle.open(MASK_DECODER, providers=providers)


def test_unknown_kind_of_graph(tiny_bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailable, match=r"'\.engine'"):
        open_session(Path("mask_decoder.engine"), tiny_bundle.manifest.graphs[MASK_DECODER].spec)
