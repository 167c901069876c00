"""What the native TensorRT session refuses, and how it says so; on the fakes of gpu_machine."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samhq_runtime import Predictor
from samhq_runtime.bundle import load_bundle
from samhq_runtime.cli import main
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.engine import EngineOptions, build_engines
from samhq_runtime.engine.gate import require_checkable
from samhq_runtime.errors import BackendUnavailable, BundleError, ConfigError, ContractError, DeviceError, ParityError
from samhq_runtime.installing import install_command
from samhq_runtime.manifest import EngineEntry
from samhq_runtime.nvidia import flavour
from samhq_runtime.nvidia.compatibility import command_for, differences
from samhq_runtime.nvidia.gpu import Gpu
from samhq_runtime.nvidia.profiles import parse_ranges
from tests.support import gpu_machine
from tests.support.bundles import change_manifest, rehash, unsealed
from tests.support.cuda_fakes import Status
from tests.support.gpu_machine import A_GPU, Machine, decoder_feeds, features_of, forget_runtime
from tests.support.tensorrt_builder import unharmed
from tests.support.tensorrt_runtime_fakes import RuntimeRecord

machine = gpu_machine.machine  # the fixture


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": "10.2.0"}, r"built for TensorRT 10\.2\.0, this is 1\d\.\d"),
        ({"version": "10.2.0", "flags": {"version_compatible": True, "refittable": "x"}}, r""),
        ({"gpu": "NVIDIA L4", "compute_capability": "8.9"}, r"NVIDIA L4 \(8\.9\), this is NVIDIA Test Card \(8\.6\)"),
        ({"gpu": "NVIDIA L4", "compute_capability": "8.9", "flags": {"hardware_compatible": True}}, None),
        ({"gpu": "NVIDIA RTX A4000"}, r"NVIDIA RTX A4000 \(8\.6\), this is NVIDIA Test Card \(8\.6\)"),
        ({"platform": "linux-aarch64"}, r"linux-aarch64, this is "),
        ({"graph_sha256": "0" * 64}, r"was built from another image_encoder\.onnx than this bundle's"),
        ({"gpu": None, "flags": {"compute_capabilities": ["8.9", "12.0"]}}, r"compute capability 8\.9, 12\.0, this is"),
    ],
)
def test_engine_of_another_machine(machine: Machine, change: dict[str, object], complaint: str | None) -> None:
    machine.build(graphs=[IMAGE_ENCODER], options=EngineOptions(workspace=512))
    change_manifest(machine.bundle, lambda content: content["engines"]["image_encoder.tensorrt"].update(change))
    bundle = load_bundle(machine.bundle)
    same_major = sys.modules["tensorrt"].__version__.startswith("10")
    if complaint is None or (complaint == "" and same_major):
        bundle.open(IMAGE_ENCODER, providers=("engine",)).close()
        return
    with pytest.raises((BackendUnavailable, BundleError), match=complaint) as error:
        bundle.open(IMAGE_ENCODER, providers=("engine",))
    assert f"samhq engine {machine.bundle} --target tensorrt --graph image_encoder" in str(error.value)
    assert str(error.value).endswith("--overwrite")


def test_command_that_builds_the_same_engine_again(machine: Machine) -> None:
    ranges = {"prompts": parse_ranges("prompts", "1,1:8:32"), "points": parse_ranges("points", "0:2:8")}
    options = EngineOptions(workspace=512, refittable="hq_token", low_memory=True, tf32=True)
    bundle = machine.build(ranges=ranges, options=options)
    feeds = {**features_of(bundle), **decoder_feeds(bundle, prompts=33)}
    with bundle.open(MASK_DECODER, providers=("engine",)) as engine:
        complaint = r"point_coords \(33, 2, 2\), built for \(1, 0, 2\) to \(1, 8, 2\)"
        with pytest.raises(ContractError, match=complaint) as error:
            engine(feeds)
    command = str(error.value).partition("samhq engine ")[2].split()
    expected = "--target tensorrt --graph mask_decoder --prompts 1:1:1,1:8:32 --points 0:2:8,0:2:8 --workspace 512"
    assert command[1:] == [*expected.split(), "--low-memory", "--refittable", "hq_token", "--tf32", "--overwrite"]
    machine.built.refittable.clear()
    before = bundle.manifest.engines["mask_decoder.tensorrt"]
    assert main(["engine", *command]) == 0
    after = load_bundle(machine.bundle).manifest.engines["mask_decoder.tensorrt"]
    assert replace(after, parity=before.parity) == before  # the last bits of what was found there vary


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (lambda encoder, decoder: encoder[:-2], r"cannot load it: Serialization assertion failed.*build it again"),
        (lambda encoder, decoder: b"", r"cannot load it"),
        (lambda encoder, decoder: decoder, r"it is not an engine of this bundle's graph"),
    ],
    ids=["truncated", "empty", "swapped"],
)
def test_bytes_that_are_not_the_engine(machine: Machine, plan: object, complaint: str) -> None:
    bundle = machine.build(verify=False)
    encoder, decoder = (bundle.path / entry.file for entry in bundle.manifest.engines.values())
    encoder.write_bytes(plan(encoder.read_bytes(), decoder.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BundleError, match=r"samhq engine .* --graph image_encoder --overwrite"):
        load_bundle(bundle.path)
    rehash(bundle.path)
    with pytest.raises((BundleError, ContractError), match=complaint):
        load_bundle(bundle.path).open(IMAGE_ENCODER, providers=("engine",))


def test_engines_of_another_bundle(machine: Machine, tmp_path: Path) -> None:
    """Their bytes alone are damage; with the other bundle's entry, and hashes that agree, the graph gives them away."""
    import onnx

    graph = shutil.copytree(machine.bundle, tmp_path / "other") / "image_encoder.onnx"
    model = onnx.load(graph)
    model.producer_name = "another export"
    onnx.save(model, graph)
    rehash(graph.parent)
    theirs = machine.build(graphs=[IMAGE_ENCODER], verify=False)
    build_engines(graph.parent, graphs=[IMAGE_ENCODER], verify=False)
    ours = load_bundle(graph.parent)
    (their_entry,), (our_entry,) = theirs.manifest.engines.values(), ours.manifest.engines.values()
    shutil.copy(theirs.path / their_entry.file, ours.path / our_entry.file)
    with pytest.raises(BundleError, match=r"damaged or changed.*samhq engine .* --overwrite"):
        load_bundle(ours.path)
    (ours.path / our_entry.file).rename(ours.path / their_entry.file)
    change_manifest(
        ours.path,
        lambda content: content.update(
            engines=unsealed(theirs.path)["engines"],
            files={their_entry.file if n == our_entry.file else n: f for n, f in content["files"].items()},
        ),
    )
    rehash(ours.path)
    with pytest.raises(BundleError, match=r"was built from another image_encoder\.onnx than this bundle's"):
        load_bundle(ours.path).open(IMAGE_ENCODER, providers=("engine",))


def swap_sign(name: str, array: np.ndarray) -> np.ndarray:
    return -array if name == "low_res_logits" else array


def make_nan(name: str, array: np.ndarray) -> np.ndarray:
    return array * np.float32(np.nan)


@pytest.mark.parametrize("distort", [swap_sign, make_nan])
def test_wrong_kernels_never_enter_the_bundle(machine: Machine, distort: object) -> None:
    machine.ran.distort = distort  # type: ignore[assignment]
    with unharmed(machine.bundle), pytest.raises(ParityError, match=r"something else on this GPU: .*not added"):
        machine.build()


def test_wrong_kernels_are_found_before_the_first_use(machine: Machine) -> None:
    bundle = machine.build(verify=False)
    assert [dict(entry.parity) for entry in bundle.manifest.engines.values()] == [{}, {}]
    machine.ran.distort = swap_sign
    with pytest.raises(ParityError, match=r"against pytorch.*do not use them"):
        Predictor(bundle, providers=("engine",))
    machine.ran.distort = RuntimeRecord().distort
    Predictor(bundle, providers=("engine",)).close()
    executed = machine.ran.executed
    Predictor(bundle, providers=("engine",)).close()
    assert machine.ran.executed == executed  # once per process


def test_verify_command(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", str(machine.bundle), "--verify"]) == 1
    assert "no TensorRT engines to verify" in capsys.readouterr().err
    assert main(["engine", str(machine.bundle), "--no-verify"]) == 0
    assert "not verified on a GPU" in capsys.readouterr().out
    assert main(["engine", str(machine.bundle), "--verify"]) == 0
    assert f"verified on {A_GPU.name}" in capsys.readouterr().out
    assert all(entry.parity["gpu"] == A_GPU.name for entry in load_bundle(machine.bundle).manifest.engines.values())
    machine.ran.distort = swap_sign
    with unharmed(machine.bundle):
        assert main(["engine", str(machine.bundle), "--verify"]) == 1
    assert "compute something else on this GPU" in capsys.readouterr().err


def test_one_engine_is_checked_with_the_other_graph(machine: Machine) -> None:
    bundle = machine.build(graphs=[MASK_DECODER])
    assert bundle.manifest.engines["mask_decoder.tensorrt"].parity["onnx"]["relative"]["image_embeddings"] == 0


def test_second_gpu_is_checked_for_itself(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that runs on both was verified on the first one only."""
    gpus = (A_GPU, Gpu("NVIDIA L4", "8.9"))
    monkeypatch.setattr("samhq_runtime.session.trt.current_gpu", lambda index=0: gpus[index])
    machine.gpu.count = 2
    bundle = machine.build(options=EngineOptions(hardware_compatible=True))
    machine.ran.distort = swap_sign
    Predictor(bundle, providers=("engine",)).close()
    second = {"engine": {"device_id": "1"}}
    with pytest.raises(ParityError, match=r"against pytorch.*do not use them"):
        Predictor(bundle, providers=("engine",), provider_options=second)
    machine.ran.distort = RuntimeRecord().distort
    Predictor(bundle, providers=("engine",), provider_options=second).close()


@pytest.mark.parametrize(
    ("name", "capability", "chosen", "serves"),
    [
        ("rtx", "8.6", (), True),
        ("rtx", "12.0", (), True),
        ("rtx", "7.5", (), False),  # Turing, only on request
        ("rtx", "7.5", ("7.5",), True),
        ("rtx", "9.0", (), False),  # an H100: TensorRT-RTX has nothing for it
        ("rtx", "8.9", ("8.6",), False),
        ("tensorrt", "9.0", (), True),
    ],
)
def test_gpus_an_engine_serves(
    machine: Machine, name: str, capability: str, chosen: tuple[str, ...], serves: bool
) -> None:
    """The gate is entered only where the engine runs, and the manifest's reader thinks the same."""
    flavour_row, gpu = flavour.FLAVOURS[name], Gpu("NVIDIA H", capability)
    tensorrt = flavour.TensorRT(flavour=flavour_row, trt=None, version="1.5.0", gpu=gpu)
    assert require_checkable(tensorrt, EngineOptions(compute_capabilities=chosen)) == serves
    flags = {"compute_capabilities": list(chosen)} if chosen else {}
    entry = EngineEntry(
        graph=IMAGE_ENCODER, file="e", graph_sha256="", flavour=name, version="1.5.0", flags=flags, profiles=[],
        gpu=gpu.name if name == "tensorrt" else None, compute_capability=capability if name == "tensorrt" else None,
        fixed_inputs=[], platform="",
    )  # fmt: skip
    found = differences(entry, "1.5.0", gpu)
    assert (found == []) == serves
    if not serves:
        assert found[0].endswith(f"this is NVIDIA H ({capability})")
        manifest = load_bundle(machine.bundle).manifest
        command = command_for(gpu, entry, bundle=machine.bundle, manifest=manifest)
        assert f"--compute-capability {capability} " in command


def test_closed_session(machine: Machine) -> None:
    bundle = machine.build(graphs=[IMAGE_ENCODER], verify=False)
    engine = bundle.open(IMAGE_ENCODER, providers=("engine",))
    engine.close()
    engine.close()
    with pytest.raises(ConfigError, match="this session is closed; open the bundle again"):
        engine({"input_image": np.ones((1, 3, 128, 128), np.float32)})


def test_no_memory_left(machine: Machine) -> None:
    bundle = machine.build(verify=False)
    with bundle.open(IMAGE_ENCODER, providers=("engine",)) as engine:
        feeds = {"input_image": np.ones((1, 3, 128, 128), np.float32)}
        left, machine.gpu.free_memory = machine.gpu.free_memory, 1000
        with pytest.raises(DeviceError, match=r"cudaMalloc\(\d+\): no memory left on the GPU"):
            engine(feeds)
        machine.gpu.free_memory = left
        assert np.isfinite(engine(feeds)["hq_features"]).all()


def test_failure_while_it_works(machine: Machine) -> None:
    bundle = machine.build(verify=False)
    with bundle.open(IMAGE_ENCODER, providers=("engine",)) as engine:
        machine.gpu.fails["cudaStreamSynchronize"] = Status.cudaErrorIllegalAddress
        with pytest.raises(DeviceError, match=r"cudaStreamSynchronize: cudaErrorIllegalAddress.*samhq doctor"):
            engine({"input_image": np.ones((1, 3, 128, 128), np.float32)})


def test_gpu_absent(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = machine.build(verify=False)
    monkeypatch.setattr(flavour, "current_gpu", lambda index=0: None)
    with pytest.raises(BackendUnavailable, match="no NVIDIA GPU"):
        bundle.open(IMAGE_ENCODER, providers=("engine",))


def test_driver_too_old(machine: Machine) -> None:
    bundle = machine.build(verify=False)
    machine.gpu.fails["cudaGetDeviceCount"] = Status.cudaErrorInsufficientDriver
    with pytest.raises(BackendUnavailable, match=r"cudaErrorInsufficientDriver.*samhq doctor"):
        bundle.open(IMAGE_ENCODER, providers=("engine",))


def test_cuda_bindings_missing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_runtime(monkeypatch)
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with unharmed(machine.bundle), pytest.raises(BackendUnavailable, match=r"cuda-bindings is missing.*--no-verify"):
        machine.build()
    bundle = machine.build(verify=False)  # building alone does not need them
    with pytest.raises(BackendUnavailable, match=f"cuda-bindings is missing.*{re.escape(install_command('trt'))}"):
        bundle.open(IMAGE_ENCODER, providers=("engine",))


@pytest.mark.parametrize(
    ("providers", "options", "error", "complaint"),
    [
        (("engine", "cpu"), {}, ConfigError, "an engine stands alone"),
        (("engine:rtx",), {}, BundleError, r"no engine of image_encoder; build it: samhq engine .* --target rtx"),
        (("engine",), {"engine": {"contexts": "0"}}, ConfigError, "contexts=0: expected of"),
        (("engine",), {"engine": {"device_id": "one"}}, ConfigError, "device_id=one: expected of"),
        (("engine",), {"engine": {"speed": "1"}}, ConfigError, "speed=1: expected of"),
        (("engine",), {"engine": {"device_id": "3"}}, ConfigError, r"device_id: got 3, this machine has 1"),
        (("engine",), {"cuda": {"device_id": "0"}}, ConfigError, "provider option of 'cuda'"),
    ],
)
def test_requests_that_cannot_be_honoured(
    machine: Machine, providers: tuple[str, ...], options: dict[str, dict[str, str]], error: type, complaint: str
) -> None:
    bundle = machine.build(graphs=[IMAGE_ENCODER], verify=False)
    with pytest.raises(error, match=complaint):
        bundle.open(IMAGE_ENCODER, providers=providers, provider_options=options)
