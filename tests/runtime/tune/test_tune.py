"""`samhq tune`: the quickest way that is right; noise, crashes, hangs and want of memory are rows with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime import Bundle
from samhq_runtime.auto import Way, stored_ways
from samhq_runtime.cli import main
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import ConfigError
from samhq_runtime.machine import processor
from samhq_runtime.tune import TuneOptions, Tuning, candidates, run, tune, worker
from samhq_runtime.tune.candidates import thread_counts
from samhq_runtime.tune.report import report
from samhq_runtime.tune.worker import Job

STAND_IN = """
import json, os, signal, sys, time
job = json.loads(sys.argv[1])
known = json.loads(os.environ["STAND_IN"])
if not job["graph"]:
    print(json.dumps({"providers": list(known)}))
    raise SystemExit
name = job["provider"]
if name == "crash": os.kill(os.getpid(), signal.SIGSEGV)
if name == "killed": os.kill(os.getpid(), signal.SIGKILL)
if name == "hang": time.sleep(60)
if name == "silent": raise SystemExit("no such device")
if name == "memory":
    print(json.dumps({"error": "out of memory"}))
    raise SystemExit
seconds = known[name][job["graph"] == "mask_decoder"] * (1 + job["threads"] / 100) + abs(job["prompts_per_call"] - 16)
iou = 0.1 if name == "noise" else 1.0
wrong = ["mask hq against PyTorch: IoU 0.1", "another"] if iou < 0.9 else []
print("a library says hello")
print(json.dumps({"seconds": seconds, "host_bytes": 10**8, "gpu_bytes": None, "mask_iou": iou, "wrong": wrong}))
"""


@pytest.fixture
def found(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tune with stand-in children: providers -> seconds of encoder and decoder."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in/child.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(run, "_WORKER", "stand_in.child")
    monkeypatch.setattr(run, "thread_counts", lambda provider, asked: list(asked))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def of(known: Mapping[str, tuple[float, float]], **options: Any) -> Tuning:
        monkeypatch.setenv("STAND_IN", json.dumps(known))
        return tune(tiny_bundle, TuneOptions(**{"prompts": 1, **options}), lambda text: None)

    return of


def reasons(tuning: Tuning) -> dict[str, str]:
    return {tried.way.providers[0]: tried.reason for tried in tuning.tried if tried.graph == IMAGE_ENCODER}


def test_each_graph_gets_the_quickest_that_is_right(found: Any) -> None:
    tuning = found({"noise": (0.001, 0.001), "a": (1.0, 9.0), "b": (2.0, 8.0)})
    assert tuning.ways.providers == {IMAGE_ENCODER: ("a",), MASK_DECODER: ("b",)}
    assert reasons(tuning)["noise"] == "mask hq against PyTorch: IoU 0.1 and 1 more"
    assert "not close enough" in report(tuning, "fp32")


def test_failures_are_rows(found: Any) -> None:
    broken = ("crash", "killed", "hang", "silent", "memory")
    tuning = found({**dict.fromkeys(broken, (0.0, 0.0)), "a": (1.0, 1.0)}, timeout=2.0)
    assert tuning.ways.providers == {IMAGE_ENCODER: ("a",), MASK_DECODER: ("a",)}
    assert reasons(tuning) == {
        "crash": "killed by SIGSEGV: it said nothing",
        "killed": "killed by SIGKILL: it said nothing (out of memory?)",
        "hang": "no answer in 2 s: it hangs, or needs a longer --timeout",
        "silent": "ended with 1: no such device",
        "memory": "out of memory",
        "a": "",
    }
    text = report(tuning, "fp32")
    assert text.count("failed |") == 2 * len(broken)
    assert "image_encoder, hang: no answer in 2 s" in text


def test_threads_and_groups(found: Any) -> None:
    tuning = found({"a": (1.0, 1.0)}, threads=(1, 4), prompts=32)
    assert tuning.ways.by_graph[IMAGE_ENCODER] == Way(("a",), 0)  # 1 % is noise: the earlier one stays
    assert tuning.ways.prompts_per_call == 16
    assert [tried.prompts_per_call for tried in tuning.tried][-4:] == [1, 4, 16, 32]
    assert found({"a": (1.0, 1.0)}, threads=(1,), prompts=1).ways.prompts_per_call is None


def test_nothing_is_right(found: Any, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    tuning = found({"noise": (1.0, 1.0), "crash": (1.0, 1.0)})
    assert (tuning.ways, tuning.chosen) == (None, ())
    assert main(["tune", str(tiny_bundle.path)]) == 1
    printed = capsys.readouterr()
    assert "killed by SIGSEGV" in printed.out
    assert "no way that is here computes PyTorch's masks" in printed.err
    assert stored_ways(tiny_bundle.path) is None


def test_command_keeps_the_choice(
    found: Any, tiny_bundle: Bundle, plain_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    found({"a": (1.0, 2.0)})
    assert main(["tune", str(tiny_bundle.path), "--prompts", "1", "--sibling", str(tiny_bundle.path)]) == 0
    printed = capsys.readouterr().out
    assert "--providers auto now runs a\n" in printed
    assert "quickest of these bundles" in printed
    assert str(stored_ways(tiny_bundle.path)) == "a"
    assert main(["tune", str(tiny_bundle.path), "--sibling", str(plain_bundle.path)]) == 1
    assert "other weights than" in capsys.readouterr().err


def test_real_children_hold_noise_against_pytorch(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The check itself, in this process: right results pass with every measured figure, disturbed ones do not."""
    job = Job(
        bundle=str(tiny_bundle.path), graph=IMAGE_ENCODER, provider="cpu", threads=1, decoder="cpu",
        features=str(tmp_path / "features.npz"), repeats=1, seconds=0.1, prompts=3, prompts_per_call=2,
    )  # fmt: skip
    answer = worker.main(job)
    assert (answer["wrong"], answer["mask_iou"]) == ([], 1.0)
    assert answer["seconds"] > 0
    decoder = worker.main(Job(**{**vars(job), "graph": MASK_DECODER}))
    assert (decoder["wrong"], decoder["mask_iou"]) == ([], 1.0)
    assert "unknown provider abacus" in worker.main(Job(**{**vars(job), "provider": "abacus"}))["error"]


@pytest.mark.parametrize("graph", [IMAGE_ENCODER, MASK_DECODER])
@pytest.mark.parametrize("min_iou", [0.0, 0.9])
def test_noise_is_wrong(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graph: str, min_iou: float
) -> None:
    import numpy as np

    features = tmp_path / "features.npz"
    if graph == MASK_DECODER:
        specs = tiny_bundle.manifest.graphs[IMAGE_ENCODER].spec.outputs
        np.savez(features, **{s.name: np.zeros([1, *s.shape[1:]], np.float32) for s in specs})  # type: ignore[arg-type]
    opened = worker._Side.open

    def disturbed(side: Any) -> None:
        opened(side)
        monkeypatch.setattr(type(side.session), "_checked", lambda self, outputs: _noise(outputs))

    monkeypatch.setattr(worker._Side, "open", disturbed)
    job = Job(
        bundle=str(tiny_bundle.path), graph=graph, provider="cpu", threads=1, decoder="cpu", features=str(features),
        repeats=1, seconds=0.1, min_iou=min_iou,
    )  # fmt: skip
    answer = worker.main(job)
    assert answer["mask_iou"] < 0.9
    assert "IoU" in answer["wrong"][0]


def _noise(outputs: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    generator = np.random.default_rng(0)
    return {n: generator.standard_normal(a.shape, dtype=np.float32).astype(a.dtype) for n, a in outputs.items()}


def test_providers_of_this_machine(tiny_bundle: Bundle) -> None:
    here = candidates.providers_here(tiny_bundle.manifest)
    assert here[0] == "cpu"
    assert len(set(here)) == len(here)
    assert worker.main(Job(bundle=str(tiny_bundle.path))) == {"providers": here}


@pytest.mark.parametrize(
    ("logical", "physical", "quota", "expected"),
    [(2, 2, None, []), (8, 4, None, [2, 8]), (4, 4, 1.5, [2]), (64, 32, 6.0, [6, 16, 64]), (3, None, None, [3])],
)
def test_thread_counts(
    monkeypatch: pytest.MonkeyPatch, logical: int, physical: int | None, quota: float | None, expected: list[int]
) -> None:
    for name, value in (("usable_cores", logical), ("physical_cores", physical), ("cpu_quota", quota)):
        monkeypatch.setattr(candidates, name, lambda value=value: value)
    assert thread_counts("openvino:cpu:bf16") == expected
    assert thread_counts("cpu", [5]) == [5]
    assert thread_counts("cuda", [5]) == []


@pytest.mark.parametrize(
    "options", [{"min_iou": 1.1}, {"min_iou": -1}, {"prompts": 0}, {"timeout": 0}, {"threads": (0,)}, {"seconds": -1}]
)
def test_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TuneOptions(**options)


@pytest.mark.parametrize(
    ("files", "quota", "memory"),
    [
        ({}, None, None),
        ({"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ({"cpu.max": "150000 100000", "memory.max": "2147483648"}, 1.5, 1 << 31),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        (
            {
                "cpu/cpu.cfs_quota_us": "400000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            4.0,
            None,
        ),
    ],
)
def test_limits_of_a_container(tmp_path: Path, files: dict[str, str], quota: float | None, memory: int | None) -> None:
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert processor.cpu_quota(tmp_path) == quota
    assert processor.memory_limit(tmp_path) == memory


def test_physical_cores(tmp_path: Path) -> None:
    for core in range(4):
        path = tmp_path / f"sys/devices/system/cpu/cpu{core}/topology"
        path.mkdir(parents=True)
        (path / "core_cpus_list").write_text(f"{core % 2},{core % 2 + 2}")
    assert processor.physical_cores(tmp_path) == 2
    assert processor.physical_cores(tmp_path / "elsewhere") is None
