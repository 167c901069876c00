"""`--locate` names the node that a fault was planted in; on the CPU, with graphs of the demo model."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from samhq_exporter.cli import main as export_main
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.precision import measuring
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.bundle import Bundle
from samhq_runtime.cli import main
from tests.support.bundles import change_manifest, rehash
from tests.support.models import save_checkpoint
from tests.support.required import required
from tests.support.shared import shared_bundle

required("polygraphy", install="samhq-export[debug]")
LIN1 = "/mask_decoder/transformer/layers.1/mlp/lin1/MatMul"
LIN2 = "/image_encoder/blocks.2/mlp/lin2/MatMul"


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, DEMO_CHECKPOINT)


@pytest.fixture
def planted(demo_bundle_fp16: Bundle, tmp_path: Path) -> Callable[[str, str], Path]:
    """A float16 bundle with some columns of one weight in the wrong order, hashed as if it were right."""

    def plant(graph: str, node: str) -> Path:
        path = shutil.copytree(demo_bundle_fp16.path, tmp_path / "planted")
        file = path / f"{graph}.onnx"
        model = ir.load(file)
        weight = next(found for found in model.graph if found.name == node).inputs[1]
        assert weight is not None
        assert weight.const_value is not None
        weight.const_value = ir.tensor(np.flip(weight.const_value.numpy(), axis=0).copy(), name=weight.name)
        ir.save(model, file)
        rehash(path)
        return path

    return plant


@pytest.mark.parametrize(("graph", "node"), [("mask_decoder", LIN1), ("image_encoder", LIN2)])
def test_wrong_weight(
    planted: Callable[[str, str], Path], fp32: Bundle, graph: str, node: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["engine", str(planted(graph, node)), "--locate", "--against", str(fp32.path)]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith(f"| {graph}"))
    _, _, found, operator, error, before, pattern, _ = (cell.strip() for cell in line.split("|"))
    assert (found, operator, pattern) == (node, "MatMul", node.rpartition("/")[0].rpartition("/")[0] + "/")
    assert float(error) > 0.05 > 10 * float(before)
    assert out.count("nothing departs") == 1


def test_overflow_at_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer beyond float16, whose measured island was taken away."""
    monkeypatch.setattr(measuring, "float16_islands", lambda model, largest, policy: {})
    sam = load_checkpoint(DEMO_CHECKPOINT).sam_hq
    sam.image_encoder.blocks[1].mlp.lin1.weight.data *= 2e4
    checkpoint = save_checkpoint(sam, tmp_path / "large.pth")
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "bundle"), "--precision", "fp16"]
    assert export_main([*arguments, "--token-fusion", "hadamard", "--locate"]) == 1
    out, err = capsys.readouterr()
    assert "fp16 graphs differ from PyTorch" in err
    found = re.search(r"\| image_encoder +\| +(\S+) \| +(\w+) \| +inf \| +\S+ \| +(\S+) \|", out)
    assert found, out
    assert found.groups() == ("/image_encoder/blocks.1/mlp/lin1/MatMul", "MatMul", "/image_encoder/blocks.1/mlp/")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--against", "FP32"], "--against: only with --locate"),
        (["--locate"], "no NVIDIA GPU here to run an engine on; compare the graphs on the CPU with --against"),
        (["--locate", "--against", "FP16"], "is fp16, expected an fp32 bundle"),
        (["--locate", "--against", "TINY"], "is of another model: "),
    ],
)
def test_what_is_refused(
    demo_bundle_fp16: Bundle,
    fp32: Bundle,
    tiny_bundle: Bundle,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("samhq_runtime.commands.locate.current_gpu", lambda: None)
    paths = {"FP32": fp32.path, "FP16": demo_bundle_fp16.path, "TINY": tiny_bundle.path}
    words = [str(paths.get(word, word)) for word in arguments]
    assert main(["engine", str(demo_bundle_fp16.path), *words]) == 1
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


def test_bf16_is_for_the_exporter(
    demo_bundle_fp16: Bundle, fp32: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(demo_bundle_fp16.path, tmp_path / "bundle")
    change_manifest(path, lambda content: content.update(precision="bf16"))
    assert main(["engine", str(path), "--locate", "--against", str(fp32.path)]) == 1
    assert "samhq-export --precision bf16 --locate compares an emulation" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "inspect model BUNDLE/mask_decoder.onnx --show layers",
        "run BUNDLE/image_encoder.onnx --onnxrt --onnx-outputs mark all",
    ],
)
def test_documented_polygraphy_commands(demo_bundle_fp16: Bundle, command: str) -> None:
    """As docs/tensorrt.md has them, as far as a CPU allows."""
    page = (Path(__file__).parents[3] / "docs" / "tensorrt.md").read_text(encoding="utf-8")
    assert f"polygraphy {command}" in page
    words = command.replace("BUNDLE", str(demo_bundle_fp16.path)).split()
    ran = subprocess.run([Path(sys.executable).with_name("polygraphy"), *words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
