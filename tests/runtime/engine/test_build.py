"""Whole builds with a real builder: engines, manifest, and a bundle that no failure harms. Nothing is run on a GPU."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest

from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.engine import EngineOptions, build_engines, store
from samhq_runtime.errors import BackendUnavailable, BundleError, ConfigError, ContractError
from samhq_runtime.nvidia.profiles import parse_ranges
from tests.support.bundles import change_manifest, rehash
from tests.support.tensorrt_builder import child_environment, require_rtx, stand_in_for_tensorrt_11, unharmed
from tests.support.tensorrt_fakes import SHAPES


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    require_rtx()
    return shutil.copytree(tiny_bundle.path, tmp_path / "bundle")


def test_both_engines_enter_the_manifest(bundle: Path, tiny_bundle: Bundle) -> None:
    ranges = {"prompts": parse_ranges("prompts", "1,1:8:64"), "images": parse_ranges("images", "1:1:4")}
    built = build_engines(bundle, target="rtx", ranges=ranges)
    manifest = load_bundle(bundle).manifest
    assert list(manifest.engines) == ["image_encoder.rtx", "mask_decoder.rtx"]
    assert list(manifest.engines.values()) == [engine.entry for engine in built]
    assert {**vars(manifest), "engines": {}, "files": {}} == {**vars(tiny_bundle.manifest), "engines": {}, "files": {}}
    encoder, decoder = manifest.engines.values()
    assert encoder.version == require_rtx().version
    assert (encoder.gpu, encoder.compute_capability) == (None, None)
    assert encoder.graph_sha256 == manifest.files["image_encoder.onnx"].sha256
    assert (len(encoder.profiles), len(decoder.profiles)) == (1, 2)
    assert encoder.profiles[0] == {
        "input_image": {"min": [1, 3, 128, 128], "opt": [1, 3, 128, 128], "max": [4, 3, 128, 128]}
    }
    assert (encoder.fixed_inputs, decoder.fixed_inputs) == ([], ["hq_token"])  # a constant: refit to change it
    assert not any("hq_token" in profile for profile in decoder.profiles)
    for engine in built:
        assert manifest.files[engine.entry.file].bytes == engine.bytes > 100_000
        assert manifest.files[engine.entry.file].sha256.startswith(engine.entry.file.split("-")[1].split(".")[0])


def test_damaged_engine_is_found_and_can_be_built_again(bundle: Path) -> None:
    (built,) = build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER])
    path = bundle / built.entry.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        BundleError, match=r"damaged .*; samhq engine .* --target rtx --graph image_encoder --overwrite"
    ):
        load_bundle(bundle)
    path.unlink()
    with pytest.raises(BundleError, match=r"is missing; samhq engine .* --overwrite"):
        load_bundle(bundle)
    build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER], overwrite=True)
    load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"file": "other.engine"}, "engine file 'other.engine' is not in its list"),
        ({"file": ["x"]}, "not a manifest"),
        ({"graph": "decoder"}, "engine .* of 'decoder'"),
        ({"speed": 1}, "speed"),
    ],
)
def test_bad_engine_entries(bundle: Path, change: dict[str, object], complaint: str) -> None:
    build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER])
    change_manifest(bundle, lambda content: content["engines"]["image_encoder.rtx"].update(change))
    with pytest.raises(BundleError, match=complaint):
        load_bundle(bundle)


def test_existing_engine_stays_unless_told_otherwise(bundle: Path) -> None:
    (first,) = build_engines(bundle, target="rtx", graphs=[MASK_DECODER])
    with unharmed(bundle), pytest.raises(ConfigError, match=r"already has mask_decoder for TensorRT-RTX .*--overwrite"):
        build_engines(bundle, target="rtx")
    ranges = {"prompts": parse_ranges("prompts", "1:2:4")}
    (second,) = build_engines(bundle, target="rtx", graphs=[MASK_DECODER], ranges=ranges, overwrite=True)
    assert first.entry.file != second.entry.file
    assert not (bundle / first.entry.file).exists()
    assert load_bundle(bundle).manifest.engines == {"mask_decoder.rtx": second.entry}
    build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER])
    assert len(load_bundle(bundle).manifest.engines) == 2


def test_no_points_is_a_size_too(bundle: Path) -> None:
    (built,) = build_engines(
        bundle, target="rtx", graphs=[MASK_DECODER], ranges={"points": parse_ranges("points", "0:2:16")}
    )
    assert built.entry.profiles[0]["point_labels"]["min"] == [1, 0]


def test_low_memory_writes_a_whole_plan(bundle: Path) -> None:
    """Not the same one: auxiliary streams are off."""
    (plain,) = build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER])
    magic = (bundle / plain.entry.file).read_bytes()[:4]
    (lean,) = build_engines(
        bundle, target="rtx", graphs=[IMAGE_ENCODER], options=EngineOptions(low_memory=True), overwrite=True
    )
    assert lean.bytes == pytest.approx(plain.bytes, rel=0.01)
    assert (bundle / lean.entry.file).read_bytes().startswith(magic)
    assert lean.entry.flags == {"low_memory": True}


def test_compute_capabilities(bundle: Path) -> None:
    options = EngineOptions(compute_capabilities=("8.6", "8.9"))
    (built,) = build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER], options=options)
    assert built.entry.flags == {"compute_capabilities": ["8.6", "8.9"]}
    with unharmed(bundle), pytest.raises(ConfigError, match=r"does not know 6\.1; choose from .*8\.6"):
        build_engines(bundle, target="rtx", graphs=[MASK_DECODER], options=EngineOptions(compute_capabilities=("6.1",)))


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        (EngineOptions(hardware_compatible=True), ConfigError, "--hardware-compatible: not with TensorRT-RTX"),
        (EngineOptions(version_compatible=True), ConfigError, "--version-compatible: not with TensorRT-RTX"),
        (EngineOptions(optimization_level=5), ConfigError, "--optimization-level: not with TensorRT-RTX"),
        (EngineOptions(refittable="hq_token"), BackendUnavailable, "--refittable: needs an NVIDIA GPU"),
        (EngineOptions(workspace=1), BackendUnavailable, "cannot build it: .*; give a larger --workspace"),
    ],
)
def test_options_that_cannot_be_honoured(
    bundle: Path, options: EngineOptions, error: type[Exception], complaint: str
) -> None:
    if options.refittable and require_rtx().gpu:
        pytest.skip("there is a GPU")
    with unharmed(bundle), pytest.raises(error, match=complaint):
        build_engines(bundle, target="rtx", graphs=[MASK_DECODER], options=options)


def test_operator_tensorrt_does_not_know(bundle: Path) -> None:
    model = onnx.load(bundle / "mask_decoder.onnx")
    node = next(n for n in model.graph.node if n.op_type == "Softmax")
    node.op_type, node.domain = "SharpMax", "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, bundle / "mask_decoder.onnx")
    rehash(bundle)
    with unharmed(bundle), pytest.raises(BundleError) as error:
        build_engines(bundle, target="rtx")
    assert "mask_decoder.onnx: TensorRT-RTX" in str(error.value)
    assert "operator SharpMax" in str(error.value)
    assert node.name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", [0, 100, 5000])
def test_graph_cut_short(bundle: Path, cut: int) -> None:
    path = bundle / "mask_decoder.onnx"
    path.write_bytes(path.read_bytes()[:cut])
    rehash(bundle)
    with unharmed(bundle, loads=False), pytest.raises((BundleError, ContractError), match=r"mask_decoder\.onnx: "):
        build_engines(bundle, target="rtx", graphs=[MASK_DECODER])


def test_the_other_graph_in_its_place(bundle: Path) -> None:
    shutil.copy(bundle / "image_encoder.onnx", bundle / "mask_decoder.onnx")
    rehash(bundle)
    with unharmed(bundle), pytest.raises(ContractError, match=r"mask_decoder\.onnx: inputs are"):
        build_engines(bundle, target="rtx", graphs=[MASK_DECODER])


@contextmanager
def largest_file(limit: int) -> Iterator[None]:
    """Writing more than `limit` bytes to one file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("low_memory", [False, True])
def test_disk_full(bundle: Path, low_memory: bool) -> None:
    with unharmed(bundle), largest_file(100_000), pytest.raises(BundleError, match=r"cannot be written .*as it was"):
        build_engines(bundle, target="rtx", options=EngineOptions(low_memory=low_memory))


@pytest.mark.parametrize("exists", [False, True])
def test_disk_full_for_the_manifest(bundle: Path, monkeypatch: pytest.MonkeyPatch, exists: bool) -> None:
    if exists:
        build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_manifest", full)
    with unharmed(bundle), pytest.raises(BundleError, match=r"No space left on device.*as it was"):
        build_engines(bundle, target="rtx", graphs=[IMAGE_ENCODER], overwrite=True)


def test_needs_numpy_and_tensorrt_only(bundle: Path) -> None:
    code = (
        "import sys; from samhq_runtime.engine import build_engines; "
        "assert not {'tensorrt', 'tensorrt_rtx'} & sys.modules.keys(); "
        f"build_engines({str(bundle)!r}, target='rtx', graphs=['image_encoder']); "
        "assert not {'torch', 'onnx', 'onnxruntime', 'cuda', 'tqdm', 'samhq_exporter'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=child_environment())


def test_tensorrt_11s_own_module(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The `tensorrt` row of the table, on the stand-in: it parses, takes the profiles and builds; no GPU, no timing."""
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    libraries = tmp_path / "lib"
    libraries.mkdir()
    environment = stand_in_for_tensorrt_11(libraries)
    code = (
        "from dataclasses import replace; from samhq_runtime.engine import FLAVOURS, build_engines; "
        "row = replace(FLAVOURS['tensorrt'], needs_gpu=False, keeps_timing_cache=False); "
        f"print(len(build_engines({str(bundle)!r}, target=row)))"
    )
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "2\n", run.stderr
    encoder, decoder = load_bundle(bundle).manifest.engines.values()
    assert encoder.flavour == decoder.flavour == "tensorrt"
    assert encoder.version.startswith("11.")
    run = subprocess.run(
        [sys.executable, "-m", "samhq_runtime", "engine", str(bundle), "--overwrite"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if require_rtx().gpu is None:
        assert run.returncode == 1
        assert run.stderr.startswith("error: no NVIDIA GPU (or no driver) here: TensorRT 11.")


def test_fakes_have_the_shape_of_tensorrt_11(tmp_path: Path) -> None:
    """What the recordings say that 11.4 has, it has; and what they say that only 10.3 has, it has not."""
    shapes = {version: {k: list(v) for k, v in shape.items()} for version, shape in SHAPES.items()}
    code = (
        "import json, sys, tensorrt as trt; shapes = json.loads(sys.argv[1]); new = shapes['11.4.0.106']; "
        "config, enums = trt.IBuilderConfig, [n for n in new if n[0].isupper()]; "
        "has = lambda n, m: m in getattr(trt, n).__members__; "
        "missing = [(n, m) for n in enums for m in new[n] if not has(n, m)]; "
        "missing += [m for m in new['config'] if not hasattr(config, m)]; "
        "missing += [m for m in new['module'] if not hasattr(trt, m)]; "
        "extra = [(n, m) for n in enums for m in shapes['10.3.0'][n] if m not in new[n] and has(n, m)]; "
        "print(trt.__version__, missing, extra)"
    )
    command = [sys.executable, "-c", code, json.dumps(shapes)]
    run = subprocess.run(command, env=stand_in_for_tensorrt_11(tmp_path), capture_output=True, text=True, check=False)
    assert run.stdout == f"{list(SHAPES)[-1]} [] []\n", run.stdout + run.stderr
