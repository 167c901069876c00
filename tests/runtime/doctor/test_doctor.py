"""`samhq doctor`: probes that crash, hang or are absent, the table of bad combinations, and the command."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from samhq_runtime import doctor
from samhq_runtime.bundle import Bundle
from samhq_runtime.cli import main
from samhq_runtime.doctor import children, examine
from samhq_runtime.doctor.children import PROBES, ProbeResult, ask_driver, probe
from samhq_runtime.doctor.engines import judge_engines
from samhq_runtime.doctor.rules import Facts, find_problems
from samhq_runtime.manifest import EngineEntry, read_manifest, write_manifest
from samhq_runtime.nvidia import gpu
from samhq_runtime.nvidia.compatibility import current_platform
from tests.support import gpu_machine
from tests.support.gpu_machine import Machine
from tests.support.tensorrt_builder import require_rtx

machine = gpu_machine.machine  # the fixture
child_probe = importlib.import_module("samhq_runtime.doctor.probe")  # the package has a function of that name
A_GPU = {"name": "NVIDIA Test Card", "compute_capability": "8.6"}
AN_ENGINE = EngineEntry(
    graph="image_encoder", file="e", graph_sha256="0" * 64, flavour="tensorrt", version="10.9.0", gpu=A_GPU["name"],
    compute_capability="8.6", profiles=[], fixed_inputs=[], flags={}, platform=current_platform(),
)  # fmt: skip
ABSENT = ProbeResult("absent", "")
FACTS = Facts(
    python="3.11",
    platform="Linux",
    packages={"numpy": "2.1.0", "onnxruntime": "1.20.0"},
    driver={"driver": "580.1", "cuda": "13.0", "gpus": [A_GPU]},
    visible_devices=None,
    providers={**dict.fromkeys(PROBES, ABSENT), "cpu": ProbeResult("works", "x"), "cuda": ProbeResult("works", "x")},
)


def with_(packages: dict[str, str] | None = None, gpu: dict[str, str] | None = None, **providers: ProbeResult) -> Facts:
    changed = {name.replace("__", ":"): result for name, result in providers.items()}
    return replace(
        FACTS,
        packages={**FACTS.packages, **(packages or {})},
        driver={**FACTS.driver, "gpus": [{**A_GPU, **(gpu or {})}]},
        providers={**FACTS.providers, **changed},
    )


def on_orin(packages: dict[str, str], **providers: ProbeResult) -> Facts:
    """JetPack 6: Python 3.10, numpy 1.26, CUDA 12.6, and TensorRT 10.3 that engines run with."""
    works = {"engine__tensorrt": ProbeResult("works", "TensorRT 10.3.0"), "cuda": ABSENT}
    orin = {"name": "Orin", "compute_capability": "8.7"}
    found = with_({"numpy": "1.26.4", "onnxruntime": "1.23.2", **packages}, orin, **{**works, **providers})
    driver = {"driver": None, "cuda": "12.6", "gpus": [orin]}
    return replace(found, python="3.10.12", platform="Linux 5.15.148-tegra, aarch64", driver=driver)


BROKEN = ProbeResult("broken", "CUDAExecutionProvider failed (missing: libcudnn.so.9)")


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        (FACTS, None),
        (with_({"onnxruntime-gpu": "1.20.0"}), r"onnxruntime and onnxruntime-gpu are both installed.*pip uninstall -y"),
        (with_({"tensorrt-cu12": "10.9", "tensorrt-cu13-libs": "10.9"}), "TensorRT is installed for cu12 and cu13"),
        (
            with_({"tensorrt-cu13-bindings": "11.4"}, engine__tensorrt=ProbeResult("broken", "libnvinfer.so.11")),
            "tensorrt-cu13-bindings is installed without its libraries.*pip install tensorrt-cu13-libs",
        ),
        (replace(with_({"nvidia-cublas-cu13": "13"}), driver={"cuda": "12.4", "gpus": []}), r"runs CUDA up to 12\.4"),
        (replace(FACTS, visible_devices="", driver={"cuda": "13.0", "gpus": []}), "CUDA_VISIBLE_DEVICES='' hides"),
        (with_(cuda=ABSENT), "NVIDIA Test Card is here, and nothing that works uses it"),
        (with_({"onnxruntime-gpu": "1.20.0"}, cuda=BROKEN), r"does not find CUDA or cuDNN: .*libcudnn\.so\.9"),
        (with_({"tensorrt-cu13": "11.0.0"}, tensorrt=BROKEN), "linked with TensorRT 10, and 11 is installed"),
        (with_({"onnxruntime": "1.18.1"}), r"before 1\.19 was built for numpy 1"),
        (with_({"nvidia-pytriton": "0.7.0"}), "reports READY and returns empty outputs"),
        (with_({"tensorrt-cu12": "10.9.0"}, {"name": "RTX 5090", "compute_capability": "12.0"}), "4837; RTX 5090 is"),
        (
            with_({"tensorrt-cu13": "11.0.0"}, {"compute_capability": "12.0"}),
            "(?s)seen up to 10.16.1.*4837.*5090.*4822",
        ),
        (with_({"tensorrt": "10.3.0"}), "a ViT for segmentation in float16 .*4723.*--no-verify"),
        (with_({"tensorrt": "10.4.0"}), "float32 .uncorrelated.*4742"),
        (with_({"tensorrt": "10.13.3.9"}, {"compute_capability": "11.0"}), "share an input, at batch 1.*JetPack 7.2"),
        (with_({"tensorrt": "10.13.3.9"}), None),
        (replace(with_({"tensorrt": "11.4.0"}), platform="Linux 6.8.12-1021-tegra, aarch64"), "is not for JetPack"),
        (replace(with_({"tensorrt": "11.4.1"}), platform="Linux 6.8.12-1021-tegra, aarch64"), None),
        (with_({"cuda-bindings": "12.9.4"}), None),
        (
            replace(with_({"cuda-bindings": "13.0.1"}), driver={"cuda": "12.6", "gpus": [A_GPU]}),
            "cuda-bindings 13.0.1 is for CUDA 13, .* up to 12.6; pip install 'cuda-bindings<13'",
        ),
        (
            on_orin({"tensorrt": "10.3.0", "cuda-bindings": "12.6.2.post1"}),
            r"^TensorRT has computed wrongly[^\n]*4723[^\n]*$",
        ),
        (
            on_orin({}, engine__tensorrt=ABSENT),
            r"nothing that works uses it; .*\[jetson\]'?; TensorRT comes with JetPack",
        ),
        (
            on_orin({"tensorrt": "10.9.0", "tensorrt-cu12": "10.9.0", "tensorrt-cu12-libs": "10.9.0"}),
            "hides JetPack's TensorRT; pip uninstall -y tensorrt tensorrt-cu12 tensorrt-cu12-libs; TensorRT comes with",
        ),
        (replace(FACTS, python="3.10.12", packages={}), "wheels for Python 3.10 .*only before 1.24"),
        (replace(FACTS, python="3.11.9", packages={}), None),
        (with_({"tensorrt-cu13": "11.0.0"}, {"compute_capability": "10.0"}), None),
        (with_({}, {"compute_capability": "12.0"}), None),
        (with_({"tensorrt-cu12": "10.7.0"}), "fused attention: issue 4328 and 4333"),
        (with_({"tensorrt-cu12": "10.9.0"}, {"compute_capability": "7.0"}), r"compute capability 7\.0; TensorRT since"),
        (with_({"tensorrt-cu12": "10.2.0"}, {"compute_capability": "7.0"}), None),
        (
            with_(engine__tensorrt=ProbeResult("broken", "no libnvinfer")),
            "engine:tensorrt does not work: no libnvinfer",
        ),
        (with_(cuda=ProbeResult("broken", "killed by SIGSEGV: x")), "cuda: killed by SIGSEGV"),
        (replace(FACTS, driver={"gpus": [], "cuda": None, "error": "no answer in 9 s: it hangs"}), "driver: no answer"),
    ],
)
def test_bad_combinations(facts: Facts, complaint: str | None) -> None:
    text = "\n".join(f"{problem.what}; {problem.do}" for problem in find_problems(facts))
    assert (text == "") if complaint is None else re.search(complaint, text), text


def child(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Let the child run this instead of the probe."""
    (folder / "stand_in").mkdir()
    (folder / "stand_in/probe.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(children, "__package__", "stand_in")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"killed by SIGSEGV"),
        ("import time; time.sleep(60)", r"no answer in 1 s: it hangs"),
        ("import sys; print('cannot', file=sys.stderr); sys.exit(3)", r"ended with 3: cannot"),
        ("print('a library says hello')", r"ended with 0"),
        (
            "import sys; print('libcudnn.so.9: cannot open shared object file', file=sys.stderr);"
            'print(\'{"status": "broken", "detail": "failed"}\')',
            r"failed \(missing: libcudnn\.so\.9\)",
        ),
    ],
)
def test_children_that_die(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, expected: str) -> None:
    child(monkeypatch, tmp_path, code)
    result = probe("cuda", timeout=1 if "sleep" in code else 60)
    assert result.status == "broken"
    assert re.search(expected, result.detail), result.detail


def test_driver_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, tmp_path, "import time; time.sleep(60)")
    assert ask_driver(timeout=1) == {"cuda": None, "driver": None, "gpus": [], "error": "no answer in 1 s: it hangs"}


def test_library_that_is_chatty_does_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child(monkeypatch, tmp_path, 'print("hello"); print(\'{"status": "works", "detail": "1.0"}\')')
    assert probe("cpu", timeout=60) == ProbeResult("works", "1.0")


def test_cpu_really_computes() -> None:
    assert probe("cpu", timeout=120).status == "works"


def test_what_a_driver_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Driver:
        def cuDriverGetVersion(self, number: object) -> int:  # noqa: N802
            number._obj.value = 12090  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr(gpu, "_driver", Driver)
    assert gpu.driver_cuda_version() == "12.9"
    monkeypatch.setattr(gpu, "_driver", lambda: None)
    assert gpu.driver_cuda_version() is None
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul\n")
    monkeypatch.setattr(gpu, "_KERNEL_MODULE", tmp_path / "version")
    assert gpu.driver_version() == "580.65.06"
    monkeypatch.setattr(gpu, "_KERNEL_MODULE", tmp_path / "none")
    assert gpu.driver_version() is None


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> None:
    """No child processes: everything absent but the CPU."""
    monkeypatch.setattr(doctor, "probe", lambda name, timeout: FACTS.providers[name] if name != "cuda" else ABSENT)
    monkeypatch.setattr(doctor, "ask_driver", lambda timeout: {"driver": None, "cuda": None, "gpus": []})


@pytest.mark.usefixtures("canned")
def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^cpu +works", out, re.MULTILINE)
    assert re.search(r"^numpy|\| numpy", out, re.MULTILINE)
    assert main(["doctor", "--provider", "cpu"]) == 0
    assert main(["doctor", "--provider", "cpu", "--provider", "engine:rtx"]) == 1
    assert capsys.readouterr().err.startswith("error: engine:rtx: ")
    assert main(["doctor", "--provider", "tpu"]) == 1
    assert "got 'tpu', expected of cpu, cuda" in capsys.readouterr().err


@pytest.mark.usefixtures("canned")
def test_json(capsys: pytest.CaptureFixture[str], tiny_bundle: Bundle) -> None:
    assert main(["doctor", "--json", "--provider", "cuda", "--bundle", str(tiny_bundle.path)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["facts"]["providers"]["cpu"]["status"] == "works"
    assert report["facts"]["packages"]["numpy"]
    assert (report["asked"], report["broken"], report["engines"]) == (["cuda"], ["cuda"], {})


def test_provider_without_a_gpu_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe", lambda name, timeout: BROKEN)
    monkeypatch.setattr(doctor, "ask_driver", lambda timeout: {"driver": None, "cuda": None, "gpus": []})
    report = examine(["cuda"])
    assert report.facts.providers["cuda"].status == "no GPU"
    assert report.facts.providers["cpu"].status == "broken"
    assert report.broken == ("cuda",)


def test_probe_builds_and_runs_an_engine(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the fakes; the child's own work, here in this process."""
    machine.built.specs["probe.onnx"] = child_probe._SPEC
    trt = sys.modules["tensorrt"]
    version = trt.__version__
    monkeypatch.setattr(trt, "__spec__", ModuleSpec("tensorrt", None))  # it is looked for before it is imported
    assert child_probe.main("engine:tensorrt") == {"status": "works", "detail": f"TensorRT {version}"}
    machine.ran.distort = lambda name, array: array + 1
    assert child_probe.main("engine:tensorrt")["detail"].endswith("computes wrong numbers")


def test_probe_of_rtx_without_a_gpu() -> None:
    if require_rtx().gpu is not None:
        pytest.skip("there is a GPU")
    answer = child_probe.main("engine:rtx")
    assert answer["status"] == "broken"
    assert re.fullmatch(r"TensorRT-RTX 1\.\S+ builds engines here, and there is no NVIDIA GPU .*", answer["detail"])
    assert doctor._without_gpu("engine:rtx", ProbeResult(**answer)).status == "no GPU"


L4 = {"name": "NVIDIA L4", "compute_capability": "8.9"}


@pytest.mark.parametrize(
    ("gpus", "verdict"),
    [
        ([A_GPU, L4], r"^$"),
        ([L4, A_GPU], r"runs on GPU 1 \(NVIDIA Test Card\) only: --provider-option engine\.device_id=1"),
        ([L4], r"built for NVIDIA Test Card \(8\.6\), this is NVIDIA L4 \(8\.9\)"),
    ],
)
def test_engines_on_a_machine_with_several_gpus(
    tiny_bundle: Bundle, tmp_path: Path, gpus: list[dict[str, str]], verdict: str
) -> None:
    write_manifest(tmp_path, replace(read_manifest(tiny_bundle.path), engines={"image_encoder.tensorrt": AN_ENGINE}))
    facts = with_(engine__tensorrt=ProbeResult("works", "TensorRT 10.9.0"))
    (found,) = judge_engines(tmp_path, replace(facts, driver={**facts.driver, "gpus": gpus})).values()
    assert re.search(verdict, found), found


@pytest.mark.parametrize(
    ("change", "providers", "verdict"),
    [
        ({}, {"engine__tensorrt": ProbeResult("works", "TensorRT 10.9.0.34")}, r"^$"),
        (
            {"version": "10.3.0"},
            {"engine__tensorrt": ProbeResult("works", "TensorRT 10.9.0.34")},
            r"TensorRT 10\.3\.0, th",
        ),
        (
            {"gpu": "NVIDIA L4"},
            {"engine__tensorrt": ProbeResult("works", "TensorRT 10.9.0")},
            r"samhq engine .*--overw",
        ),
        ({}, {}, "cannot run here"),
    ],
)
def test_engines_of_a_bundle(
    tiny_bundle: Bundle, tmp_path: Path, change: dict, providers: dict[str, ProbeResult], verdict: str
) -> None:
    manifest = read_manifest(tiny_bundle.path)
    write_manifest(tmp_path, replace(manifest, engines={"image_encoder.tensorrt": replace(AN_ENGINE, **change)}))
    (found,) = judge_engines(tmp_path, with_(**providers)).values()
    assert re.search(verdict, found), found
