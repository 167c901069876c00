"""What the C++ library does itself that others do in Python: SHA-256 and Pillow's resize."""

from __future__ import annotations

import copy
import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from samhq_runtime import Bundle
from samhq_runtime.bundle.external_data import external_files
from samhq_runtime.contract import GraphSpec
from samhq_runtime.manifest.seal import sealed
from samhq_runtime.session.ort_providers import PROVIDERS, options_of
from tests.support.bundles import unsealed
from tests.support.cpp_programs import run
from tests.support.disguises import IN_MODEL
from tests.support.manifest_fields import ENGINE, FIELDS


def test_sha256(programs: Path, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(200)
    (tmp_path / "content").write_bytes(content)
    expected = [hashlib.sha256(content[:size]).hexdigest() for size in range(len(content) + 1) for _ in range(2)]
    assert run([programs / "internals", "sha256", tmp_path / "content"]).split() == expected


def test_external_files_are_pythons(programs: Path, tmp_path: Path) -> None:
    """The same found, the same refused."""
    contents = [*IN_MODEL.values(), b"", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x0f", b"\x08", b"\x3a\x7f"]
    contents += [b"\x08" + b"\xff" * 9 + last for last in (b"\x01", b"\x02", b"\x00")]
    paths = [tmp_path / f"{number}.onnx" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    found = run([programs / "internals", "external", *paths]).splitlines()
    assert found == [_external_files(path) for path in paths]


def _external_files(path: Path) -> str:
    try:
        return " ".join(sorted(external_files(path)))
    except ValueError:
        return "refused"


def test_resize_is_pillows_to_the_bit(programs: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = [
        (1, 1, 5, 7),
        (7, 5, 7, 5),
        (7, 9, 7, 3),
        (9, 7, 30, 7),
        (3, 400, 1, 64),
        (640, 427, 64, 43),
        (33, 50, 100, 31),
    ]
    sizes += [tuple(rng.integers(1, 120, 4).tolist()) for _ in range(20)]  # type: ignore[misc]
    expected, floats = b"", b""
    with (tmp_path / "cases").open("wb") as file:
        for height, width, to_height, to_width in sizes:
            pixels = rng.choice([0, 255], (height, width, 3)).astype(np.uint8)
            pixels[::2] = rng.integers(0, 256, pixels[::2].shape)
            file.write(
                struct.pack("<6q", height, width, 3 * width, to_height, to_width, pixels.size) + pixels.tobytes()
            )
            resized = Image.fromarray(pixels).resize((to_width, to_height), Image.Resampling.BILINEAR)
            expected += np.asarray(resized).tobytes()
            floats += _resized_floats(pixels, to_width, to_height).tobytes()
    run([programs / "internals", "resize", tmp_path / "cases", tmp_path / "resized", tmp_path / "floats"])
    assert (tmp_path / "resized").read_bytes() == expected
    assert (tmp_path / "floats").read_bytes() == floats


def _resized_floats(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    planes = (Image.fromarray(plane.astype(np.float32)) for plane in pixels.transpose(2, 0, 1))
    return np.stack([plane.resize((width, height), Image.Resampling.BILINEAR) for plane in planes], axis=2)


_REFUSALS = ("BUNDLE_INVALID", "BUNDLE_SCHEMA", "BUNDLE_UNSAFE", "BUNDLE_MISSING", "BUNDLE_DAMAGED", "CONTRACT")
_READ_OTHERWISE = ("a long text", "sizes are floats", "a dimension is a float")  # 128.0 is a whole number here
_FROM = list(FIELDS).index("islands are text")
_NOT_READ = {*list(FIELDS)[_FROM:]} - {"an engine is text"}  # of engines but their files, of islands and parity


def test_fields_of_the_manifest(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Each is refused as Python refuses it, or not read here; nothing else happens, under the sanitizers too."""
    bundle, paths = shutil.copytree(tiny_bundle.path, tmp_path / "bundle"), []
    content = {**unsealed(tiny_bundle.path), "engines": {"e": ENGINE}}
    for number, (change, _) in enumerate([(lambda content: None, ""), *FIELDS.values()]):
        changed = copy.deepcopy(content)
        change(changed)
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(sealed(changed))
    whole, *statuses = run([programs / "internals", "manifests", bundle, *paths]).split()
    assert whole == "SAMHQ_OK"
    assert {case for case, status in zip(FIELDS, statuses, strict=True) if status == "SAMHQ_OK"} == {
        *_READ_OTHERWISE
    } | _NOT_READ
    assert set(statuses) - {"SAMHQ_OK"} <= {f"SAMHQ_ERROR_{kind}" for kind in _REFUSALS}


def test_run_lengths_are_pycocotools(programs: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    masks = [np.zeros((5, 4), bool), np.ones((5, 4), bool), np.eye(1, dtype=bool), rng.random((1, 40)) < 0.5]
    masks += [rng.random(tuple(rng.integers(1, 90, 2))) < density for density in (0.01, 0.5, 0.99)]
    masks += [np.arange(700 * 300).reshape(700, 300) // 40_000 % 2 == 1]  # runs of several characters
    content = b"".join(struct.pack("<2q", *mask.shape) + mask.tobytes() for mask in masks)
    (tmp_path / "masks").write_bytes(content)
    counts = run([programs / "internals", "rle", tmp_path / "masks"]).splitlines()
    assert counts == [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() for mask in masks]


def test_half_floats_are_numpys(programs: Path, tmp_path: Path) -> None:
    """Every float16, what lies halfway between two of them and right beside, and what none can hold."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.sort(halves[np.isfinite(halves)].astype(np.float32))
    middle = (finite[1:] + finite[:-1]) / 2
    floats = np.concatenate(
        [finite, middle, np.nextafter(middle, np.float32(np.inf)), [65519.99, 65520, 1e39, -np.inf]]
    )
    with np.errstate(over="ignore"):
        floats = floats.astype(np.float32)
        expected = floats.astype(np.float16).tobytes() + halves.astype(np.float32).tobytes()
    (tmp_path / "floats").write_bytes(floats.tobytes())
    run([programs / "internals", "halves", tmp_path / "floats", tmp_path / "converted"])
    got = (tmp_path / "converted").read_bytes()
    for dtype, part in ((np.float16, slice(floats.size * 2)), (np.float32, slice(floats.size * 2, None))):
        np.testing.assert_array_equal(np.frombuffer(got[part], dtype), np.frombuffer(expected[part], dtype))


def test_provider_options_are_pythons(programs: Path, tiny_bundle: Bundle) -> None:
    """The profiles of the contract, what we set, the caller's on top; what contradicts a bundle is refused."""

    def of(*texts: str) -> list[str]:
        return run([programs / "internals", "options", tiny_bundle.path, *texts]).splitlines()

    def expected(provider: str, **wanted: str) -> set[str]:
        return {
            f"{name} {provider} {option}={value}"
            for name, entry in tiny_bundle.manifest.graphs.items()
            for option, value in options_of(provider, entry.spec, {"device_id": "1", **wanted}).items()
        }

    assert set(of()) == expected("cuda") | expected("tensorrt")
    cache, arena = {"trt_engine_cache_enable": "1"}, {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "1"}
    texts = [f"tensorrt.{name}={value}" for name, value in cache.items()]
    texts += [f"cuda.{name}={value}" for name, value in arena.items()]
    assert set(of(*texts)) == expected("cuda", **arena) | expected("tensorrt", **cache)
    own = {"trt_profile_min_shapes": "x:1"}
    assert set(of("tensorrt.trt_profile_min_shapes=x:1")) == expected("cuda") | expected("tensorrt", **own)
    refused = ["cuda.device_id=2", "cpu.x=1", "rtx.x=1", "cuda", "cuda.=1", ".x=1", "cuda.x"]
    refused += [f"{name}.{option}=1" for name in ("cuda", "tensorrt") for option in PROVIDERS[name].refused]
    assert {of(text)[-1].partition(" ")[0] for text in refused} == {"SAMHQ_ERROR_CONFIG"}


@pytest.mark.parametrize(
    ("providers", "options"),
    [
        ("cpu", []),
        ("cpu,", []),
        ("cuda,cpu", ["cuda.gpu_mem_limit=9"]),
        ("tensorrt,cuda", ["tensorrt.trt_engine_cache_enable=1", "cuda.use_tf32=1"]),
        ("tensorrt", []),
    ],
)
def test_what_providers_lead_to(programs: Path, tiny_bundle: Bundle, providers: str, options: list[str]) -> None:
    """The CPU's form of the graphs for the CPU alone; copies to the host are made beside TensorRT, as Python has it."""
    graphs = tiny_bundle.manifest.graphs.values()
    names = [name for name in providers.split(",") if name]
    beside = PROVIDERS[names[0]].beside or names[0]
    ours = {} if beside == "cpu" else options_of(beside, GraphSpec("copy", (), ()), {"device_id": "1"})
    lines = run([programs / "internals", "providers", tiny_bundle.path, providers, *options]).splitlines()
    assert lines[:2] == [entry.cpu_file if names == ["cpu"] else entry.file for entry in graphs]
    assert lines[2:4] == ["threads=1", beside]
    assert sorted(lines[4:]) == sorted(f"{option}={value}" for option, value in ours.items())


def test_tensors_come_from_a_device(programs: Path) -> None:
    run([programs / "internals", "copy"])
