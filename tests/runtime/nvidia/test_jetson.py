"""Where this runs on a Jetson, nothing tells its user to install a TensorRT of pip's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from samhq_runtime.errors import BackendUnavailable
from samhq_runtime.nvidia import jetson
from samhq_runtime.nvidia.flavour import FLAVOURS, load_tensorrt


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64")
    monkeypatch.setattr(jetson, "_RELEASE", release)


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize(
    ("flavour", "advice"), [("tensorrt", "comes with JetPack: .*--system-site-packages"), ("rtx", "--target tensorrt")]
)
def test_tensorrt_is_missing(flavour: str, advice: str) -> None:
    with pytest.raises(BackendUnavailable, match=advice) as error:
        load_tensorrt(replace(FLAVOURS[flavour], module="tensorrt_that_is_absent"))
    assert "pip install" not in str(error.value)


@pytest.mark.usefixtures("board")
def test_bindings_are_those_of_the_board() -> None:
    assert "[jetson]" in jetson.engine_extra()


def test_elsewhere() -> None:
    assert "[trt]" in jetson.engine_extra()
    assert "[trt]" in FLAVOURS["tensorrt"].install
