"""trtexec's commands have the shapes of the contract."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.cli import main
from samhq_runtime.contract import MASK_DECODER
from samhq_runtime.nvidia.profiles import Range, profiles_of


def test_commands(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", str(tiny_bundle.path), "--trtexec", "--prompts", "1:2:4"]) == 0
    encoder, decoder = (shlex.split(line) for line in capsys.readouterr().out.splitlines())
    assert encoder[:3] == ["trtexec", f"--onnx={tiny_bundle.path / 'image_encoder.onnx'}", "--stronglyTyped"]
    options = dict(word.split("=", 1) for word in decoder if "=" in word)
    spec = tiny_bundle.manifest.graphs[MASK_DECODER].spec
    (profile,) = profiles_of(spec, {"prompts": (Range(1, 2, 4),)})
    for kind in ("min", "opt", "max"):
        shapes = dict(part.split(":") for part in options[f"--{kind}Shapes"].split(","))
        assert {n: tuple(map(int, s.split("x"))) for n, s in shapes.items()} == {
            name: getattr(shape, kind) for name, shape in profile.items()
        }
    assert Path(options["--onnx"]).is_file()
