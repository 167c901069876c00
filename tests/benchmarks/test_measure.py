"""Benchmarks run, shortened: what they record, and that a second run has nothing left to measure."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.measure import demo_training, gpu, peers, tuned
from benchmarks.measure.gpu import decoder_feeds
from benchmarks.measure.gpu_torch import FusedAttention, with_fused_attention
from benchmarks.pages import ROOT
from benchmarks.recording import Record, read_record
from samhq_exporter.config import ExportConfig
from samhq_runtime.auto import Way, Ways
from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import ConfigError
from samhq_runtime.tune import Tried, TuneOptions, Tuning
from tests.support.models import tiny_sam
from tests.support.required import required


@pytest.mark.parametrize(
    ("name", "options", "figures"),
    [
        ("session_options", ["--repeats", "1", "--threads", "1"], "rows"),
        ("scaling", ["--series", "decoder", "--prompts", "1", "2", "--seconds", "1"], "series"),
    ],
)
def test_of_a_bundle(tiny_bundle: Bundle, tmp_path: Path, name: str, options: list[str], figures: str) -> None:
    command = [name, "--bundle", str(tiny_bundle.path), *options, "--output", str(tmp_path / "r.json")]
    main(command)
    first = read_record(tmp_path / "r.json")
    assert first["setting"]["bundle"]["precision"] == "fp32"
    assert first[figures]
    main([*command, "--resume"])
    assert read_record(tmp_path / "r.json") == first


def test_load_of_the_server(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """In a process of its own, which it binds to some of the cores; its server takes another one."""
    required("grpc", install="samhq-export[serve]")
    options = ["--requests", "12", "--rounds", "2", "--images", "3", "--concurrency", "2", "--output", "r.json"]
    command = [sys.executable, "-m", "benchmarks", "serve_load", str(tiny_bundle.path), *options]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    child = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stderr
    assert "No answer was wrong." in child.stdout
    assert read_record(tmp_path / "r.json")["server"]["latency_ms"]["p50"] > 0


def test_demo_training_keeps_what_the_script_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def train(argv: list[str]) -> None:
        trained.append(argv[-1])
        results = {**demo_training.shipped(), "options": {"seed": int(argv[-1])}}
        Path(argv[1]).with_name("results.json").write_text(json.dumps(results))

    monkeypatch.setattr(demo_training.train, "main", train)
    command = ["demo_training", "--work", str(tmp_path / "work"), "--output", str(tmp_path / "r.json"), "--seeds"]
    main([*command, "1"])
    main([*command, "1", "2", "--resume"])
    assert trained == ["1", "2"]
    assert list(read_record(tmp_path / "r.json")["seeds"]) == ["1, from scratch", "2, from scratch"]


def test_tuned_says_whether_auto_runs_the_choice(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tune(bundle: Bundle, options: TuneOptions, notice: object) -> Tuning:
        tried = [
            Tried(graph=graph, way=Way((name,)), seconds=seconds, host_bytes=10**6, mask_iou=1.0)
            for graph in (IMAGE_ENCODER, MASK_DECODER)
            for name, seconds in (("openvino", 0.4), ("cpu", 0.1))
        ]
        ways = Ways({t.graph: t.way for t in tried[1::2]})
        return Tuning(bundle=bundle.path, options=options, tried=tried, chosen=tried[1::2], ways=ways)

    monkeypatch.setattr(tuned, "tune", tune)
    main(["tuned", str(tiny_bundle.path), "--output", str(tmp_path / "r.json")])
    content = read_record(tmp_path / "r.json")
    (found,) = content["bundles"].values()
    assert (found["chosen"], found["auto"], found["untuned_ms"], found["tuned_ms"]) == ("cpu", "cpu", 800, 200)
    assert "800 ms | 200 ms |" in tuned.tables(content)["tuned"]
    assert not tuned.breaches(content)
    found["auto"] = "openvino"
    assert "auto runs openvino" in tuned.breaches(content)[0]


@torch.inference_mode()
def test_fused_attention_has_the_same_numbers() -> None:
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    expected = tiny_sam().encode_image(image)
    sam = with_fused_attention(tiny_sam())
    assert sum(isinstance(module, FusedAttention) for module in sam.modules()) == 4
    for got, reference in zip(sam.encode_image(image), expected, strict=True):
        torch.testing.assert_close(got, reference, rtol=1e-4, atol=1e-4)


def test_gpu_benchmark_runs_with_what_is_there(
    tiny_bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is a row with the reason: PyTorch without CUDA, an export that is refused, every backend."""

    def refuse(config: ExportConfig) -> None:
        raise ConfigError("refused here")

    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "export_bundle", refuse)
    options = argparse.Namespace(repeats=1, compile=False)
    rows = list(gpu.measured(tiny_checkpoint, "fp16", tmp_path, options, known=()))
    assert [row["backend"] for row in rows] == ["torch", "export"]
    assert [row["refused"].split()[-1] for row in rows] == ["GPU", "here"]
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    missing = [b for b in gpu.BACKENDS if b[2] != "rtx"]
    rows = [{"backend": name, **gpu.measure_backend(bundle, p, target, 1)} for name, p, target in missing]
    assert all(row["refused"] for row in rows)
    content = {"gpu": {"name": "none", "compute_capability": "8.6"}, "rows": []}
    content["rows"] = [{"variant": "tiny", "precision": "fp32", **row} for row in rows]
    assert gpu.tables(content)["gpu"].count("| tiny ") == len(missing)


def test_decoder_of_the_gpu_benchmark_makes_the_released_mix(tiny_bundle: Bundle) -> None:
    feeds = decoder_feeds(tiny_bundle, 3)
    np.testing.assert_array_equal(feeds["mask_weights"], [[1, 0, 0, 0, 1]])
    spec = tiny_bundle.manifest.graphs[MASK_DECODER].spec
    features = {i.name: np.zeros([1, *i.shape[1:]], i.dtype) for i in spec.inputs if i.shape[0] == "images"}
    spec.check_feeds({**features, **feeds})


@pytest.mark.parametrize(
    ("again", "chosen", "measured"),
    [
        (False, None, ["official PyTorch", "official torch.compile", "transformers"]),
        (False, ["official ONNX"], []),
        (True, ["official ONNX"], ["official ONNX"]),
    ],
)
def test_peers_go_on_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool, chosen: list[str] | None, measured: list[str]
) -> None:
    """Rows that are there stay, and stay as they are unless --again names them."""
    old = {"champion": "ours", "name": "official ONNX", "of": "earlier"}
    record = Record(tmp_path / "r.json", {"sections": {"decoder:1": {"opponents": [old]}}}, run={})
    monkeypatch.setattr(peers, "_own_variants", lambda section, options: [])
    monkeypatch.setattr(peers, "_scene", lambda options, folder: None)
    monkeypatch.setattr(peers, "_row", lambda a, b, *rest: {"champion": a.name, "name": b.name, "of": "now"})
    options: dict[str, Any] = {"variant": "vit_b", "threads": 2, "work": None, "only": ["decoder:1"]}
    peers.measure(SimpleNamespace(**options, again=again, peers=chosen, optimum_python=None), record)  # type: ignore[arg-type]
    rows = record.content["sections"]["decoder:1"]["opponents"]
    assert [row["name"] for row in rows if row["of"] == "now"] == measured
    assert {row["name"] for row in rows} == {"official ONNX", *measured}
