"""`samhq-export`: the same bytes as the API, and one message, no traceback and no leftovers for every failure."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from samhq_exporter.cli import main
from samhq_runtime.bundle import Bundle, load_bundle

# A shell that runs the tests in the background makes its children ignore Ctrl-C.
COMMAND = (
    "import signal, sys; from samhq_exporter.cli import main; "
    "signal.signal(signal.SIGINT, signal.default_int_handler); {setup}; sys.exit(main())"
)


def start(*arguments: str | Path, setup: str = "pass", **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(setup=setup), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_same_bytes_as_the_api_in_another_process(tiny_bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    child = start("--checkpoint", tiny_checkpoint, "--output", output, PYTHONHASHSEED="1")
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert {path.name for path in output.iterdir()} == {path.name for path in tiny_bundle.path.iterdir()}
    for path in output.glob("*.onnx*"):  # figures of parity may differ in their last bits
        assert path.read_bytes() == (tiny_bundle.path / path.name).read_bytes(), path.name
    for text in (str(output), "low_res_logits", "selected", "mask_decoder.onnx"):
        assert text in out
    for step in ("load checkpoint", "export image_encoder", "export mask_decoder", "verify against PyTorch"):
        assert f"{step} ..." in err


class RunsCode:
    """Unpickled without care, it makes a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


BAD_INPUTS: dict[str, tuple[list[str], str]] = {
    "no checkpoint": (["--checkpoint", "nowhere.pth"], "no such file"),
    "checkpoint is text": (["--checkpoint", "text.pth"], "text.pth"),
    "checkpoint is empty": (["--checkpoint", "empty.safetensors"], "empty.safetensors"),
    "checkpoint is cut": (["--checkpoint", "cut.pth"], "cut.pth"),
    "checkpoint runs code": (["--checkpoint", "evil.pth"], "evil.pth"),
    "checkpoint runs code, old format": (["--checkpoint", "evil_old.pth"], "evil_old.pth"),
    "checkpoint is a folder": (["--checkpoint", "."], "config.json"),
    "unknown variant": (["--variant", "vit_x"], "unknown variant 'vit_x'"),
    "another variant": (["--variant", "vit_h"], "holds a custom model"),
    "HQ token of the wrong shape": (["--hq-token", "short.npy"], "expected 64 finite floats"),
    "output exists": (["--output", "folder"], "already exists"),
    "output is a file": (["--output", "text.pth", "--overwrite"], "is not a bundle"),
    "output is not a bundle": (["--output", "folder", "--overwrite"], "is not a bundle"),
    "output below a file": (["--output", "text.pth/bundle"], "choose another --output"),
    "output is here": (["--output", ".", "--overwrite"], "is not a bundle"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input(
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    (tmp_path / "text.pth").write_text("not weights")
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "cut.pth").write_bytes(tiny_checkpoint.read_bytes()[:9999])
    torch.save({"image_encoder.pos_embed": RunsCode()}, tmp_path / "evil.pth")
    (tmp_path / "evil_old.pth").write_bytes(pickle.dumps({"image_encoder.pos_embed": RunsCode()}))
    np.save(tmp_path / "short.npy", np.ones(5, np.float32))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    arguments, complaint = BAD_INPUTS[case]
    assert main(["--checkpoint", str(tiny_checkpoint), *arguments]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert_one_message(err, complaint)
    assert sorted(tmp_path.rglob("*")) == before


def test_tuned_hq_token(tiny_checkpoint: Path, tmp_path: Path) -> None:
    token = np.random.default_rng(1).normal(size=64).astype(np.float32)
    np.save(tmp_path / "tuned.npy", token)
    output = tmp_path / "bundle"
    arguments = ["--checkpoint", tiny_checkpoint, "--output", output, "--hq-token", tmp_path / "tuned.npy"]
    assert main([str(argument) for argument in arguments]) == 0
    assert load_bundle(output).manifest.checkpoint["hq_token_file"] == "tuned.npy"
    decoder = onnx.load(output / "mask_decoder.onnx")
    (stored,) = [i for i in decoder.graph.initializer if i.name == "hq_token"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored), token[None])


def test_unreadable_picture(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_text("not a picture")
    command = ["--checkpoint", str(tiny_checkpoint), "--output", str(tmp_path / "bundle")]
    assert main([*command, "--image", str(tmp_path / "photo.jpg")]) == 1
    assert_one_message(capsys.readouterr().err, "cannot be read as an image")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    "argv", [["--precision", "int4"], ["--token-fusion", "concat"], ["--checkpoint"], ["sam.pth"], ["--ouput", "x"]]
)
def test_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def test_disk_full(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """No file may grow beyond 100 kB, which stops the export at its first graph."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    child = start("--checkpoint", tiny_checkpoint, "--output", tmp_path / "bundle", setup=limit)
    out, err = child.communicate()
    assert (child.returncode, out) == (1, "")
    assert_one_message(err, "is the disk full?")
    assert not list(tmp_path.iterdir())


def test_disk_full_at_the_last_file(
    tiny_bundle: Bundle,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The old bundle stays."""
    output = tmp_path / "bundle"
    command = ["--checkpoint", str(tiny_checkpoint), "--output", str(output), "--overwrite"]
    output.mkdir()
    for path in tiny_bundle.path.iterdir():
        (output / path.name).write_bytes(path.read_bytes())
    write_text = Path.write_text

    def full(self: Path, *arguments: object, **options: object) -> int:
        if "manifest.json" in self.name:  # its partial file
            raise OSError(28, "No space left on device")
        return write_text(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    assert main(command) == 1
    assert_one_message(capsys.readouterr().err, "No space left on device")
    assert list(tmp_path.iterdir()) == [output]
    for path in tiny_bundle.path.iterdir():
        assert (output / path.name).read_bytes() == path.read_bytes()


def test_ctrl_c(tiny_checkpoint: Path, tmp_path: Path) -> None:
    child = start("--checkpoint", tiny_checkpoint, "--output", tmp_path / "bundle")
    assert child.stderr is not None
    seen = ""
    while "export image_encoder" not in seen:
        character = child.stderr.read(1)
        assert character, seen
        seen += character
    assert list(tmp_path.glob(".bundle.*.partial"))
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert err.endswith("error: interrupted; nothing was written\n")
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_when_the_bundle_is_there(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("samhq_exporter.additions.write_repository", interrupt)
    output = tmp_path / "bundle"
    command = ["--checkpoint", str(tiny_checkpoint), "--output", str(output), "--triton", str(tmp_path / "models")]
    assert main(command) == 130
    assert_one_message(capsys.readouterr().err, f"interrupted; the bundle {output} is complete")
    load_bundle(output)


def assert_one_message(err: str, complaint: str) -> None:
    """After the steps that went well one error, last; what may be typed to mend it is indented below."""
    lines = err.splitlines()
    steps = [line for line in lines if not line.startswith(("error: ", "    "))]
    message, *advice = lines[len(steps) :]
    assert message.startswith("error: ")
    assert complaint in message
    assert all(" ... " in step for step in steps), err
    assert not [line for line in advice if not line.startswith("    ")], err
