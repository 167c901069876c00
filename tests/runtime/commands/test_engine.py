"""`samhq engine`: what it prints, how it refuses, and Ctrl-C."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from samhq_exporter.cli import main as export_main
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.cli import main
from samhq_runtime.nvidia import flavour
from tests.support.bundles import rehash
from tests.support.tensorrt_builder import child_environment, require_rtx, unharmed


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    require_rtx()
    return shutil.copytree(tiny_bundle.path, tmp_path / "bundle")


def test_command(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", str(bundle), "--target", "rtx", "--prompts", "1:4:8", "--compute-capability", "8.6"]) == 0
    out, err = capsys.readouterr()
    assert "mask_decoder.rtx-" in out
    assert "ahead of time" in out
    assert "image_encoder for TensorRT-RTX" in err
    assert main(["engine", str(bundle), "--target", "rtx"]) == 1
    assert "already has image_encoder" in capsys.readouterr().err
    check_report(bundle, capsys)


def check_report(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All kernels by kind; nothing is read into a plan that has no text."""
    report = ["engine", str(bundle), "--target", "rtx", "--report"]
    assert main([*report, "--gpu", "h100"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"image_encoder\.rtx-\w+\.engine, program for compute capability 8\.6", out)
    assert re.search(r"matrix product float32 +\| +\d+ \| +\d", out)
    assert re.search(r"kernels have sizes that the profile leaves open: .* --prompts 1 --points 2", out)
    assert re.search(r"H100 SXM *\| +\d+\.\d\d ", out)
    assert re.search(r"H100 SXM *\| sizes are open", out)
    assert "Orin" not in out
    assert main(report[:2] + ["--report"]) == 1
    assert "no TensorRT engine to report on; build it: samhq engine" in capsys.readouterr().err
    assert main([*report, "--graph", "image_encoder"]) == 0
    assert "mask_decoder" not in capsys.readouterr().out
    (encoder,) = bundle.glob("image_encoder.rtx-*.engine")
    encoder.write_bytes(b"no text at all")
    rehash(bundle)
    assert main(report) == 1
    err = capsys.readouterr().err
    assert "this plan does not hold its kernels as text" in err
    assert "EngineInspector cannot be asked" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prompts", "8:1:64"], "error: --prompts: got 8:1:64"),
        (["--points", "many"], "error: --points: got 'many'"),
        (["--compute-capability", "ampere"], "error: --compute-capability: got 'ampere'"),
        (["--workspace", "0"], "error: --workspace"),
        (["--report", "--gpu", "gtx960"], "error: --gpu: got 'gtx960', its rates are not known"),
        (["--gpu", "h100"], "error: --gpu: only with --report"),
    ],
)
def test_command_refuses_in_one_line(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert main(["engine", str(tiny_bundle.path), *arguments]) == 1
    err = capsys.readouterr().err
    assert err.startswith(complaint)
    assert err.count("\n") == 1


def test_export_builds_engines_too(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_rtx()
    output = tmp_path / "bundle"
    arguments = ["--checkpoint", str(tiny_checkpoint), "--output", str(output), "--engine"]
    monkeypatch.setattr(flavour, "current_gpu", lambda: None)
    assert export_main([*arguments, "tensorrt"]) == 1  # before the export, not after it
    assert capsys.readouterr().err.startswith("error: ")
    assert not output.exists()
    assert export_main([*arguments, "rtx"]) == 0
    assert "ahead of time; not verified on a GPU" in capsys.readouterr().out
    assert len(load_bundle(output).manifest.engines) == 2
    assert main(["inspect", str(output)]) == 0
    assert re.search(r"mask_decoder\.rtx .*ahead of time.*not verified", capsys.readouterr().out)


def test_ctrl_c_leaves_nothing(demo_bundle_fp16: Bundle, tmp_path: Path) -> None:
    require_rtx()
    bundle = shutil.copytree(demo_bundle_fp16.path, tmp_path / "bundle")
    command = [sys.executable, "-m", "samhq_runtime", "engine", str(bundle), "--target", "rtx"]
    profiles = ["--prompts", "1,1:4:8,1:8:64", "--images", "1:1:4"]
    command += [*profiles, "--compute-capability", "8.0,8.6,8.9,12.0"]  # takes many seconds
    with unharmed(bundle):
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=child_environment(), preexec_fn=restore)
        assert process.stderr is not None
        while b"image_encoder" not in (said := process.stderr.read1()):
            assert said, "ended before it began"
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert "interrupted; nothing was written" in err
    assert "Traceback" not in err
