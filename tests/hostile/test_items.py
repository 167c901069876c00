"""One poisonous item, or a name that stands for another's, in a run over many; and what a machine may refuse."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle, Predictor
from samhq_runtime.errors import BackendUnavailable, ConfigError, PromptError
from samhq_runtime.fleet.output import result_path
from samhq_runtime.fleet.prompt_files import read_jobs
from samhq_runtime.fleet.segmenter import FleetOptions, Segmenter
from samhq_runtime.formats import Outputs
from samhq_runtime.frames.image_files import write_png
from tests.support.serving import IMAGE

BOX = [[5, 6, 40, 50]]


def lines(path: Path, *images: str) -> Path:
    path.write_text("\n".join(json.dumps({"image": image, "box": BOX}) for image in images))
    return path


@pytest.mark.parametrize("other", ["./i0.png", "i0.png", ".//./i0.png"])
def test_two_names_of_one_image(tmp_path: Path, other: str) -> None:
    with pytest.raises(PromptError, match=r"i0\.png occurs twice"):
        read_jobs(lines(tmp_path / "prompts.jsonl", "i0.png", other))


def test_a_name_whose_results_would_be_the_settings(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="would take the place of"):
        read_jobs(lines(tmp_path / "prompts.jsonl", "./settings"))


def test_one_poisonous_image_ends_nothing(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised for it is recorded for it."""
    names = ["a.png", "bomb.png", f"{'x' * 300}.png", "b.png"]  # the third is longer than a file name may be
    for name in ("a.png", "bomb.png", "b.png"):
        Image.fromarray(IMAGE).save(tmp_path / name)
    predict, calls = Predictor.predict_batch, []

    def poisoned(self: Predictor, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("from a library")
        return predict(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "predict_batch", poisoned)
    out = tmp_path / "out"
    segmenter = Segmenter(
        FleetOptions(bundle=tiny_bundle.path, images=tmp_path, outputs=Outputs(folder=out), threads=1)
    )
    jobs = read_jobs(lines(tmp_path / "prompts.jsonl", *names))
    errors = [segmenter.run(job) for job in jobs]
    assert [bool(error) for error in errors] == [False, True, True, False]
    assert errors[1] == "RuntimeError: from a library"
    assert json.loads(result_path(out, "bomb.png").read_text())["error"] == errors[1]
    assert "masks" in json.loads(result_path(out, "b.png").read_text())


@pytest.mark.parametrize("threads", [100_000, -1, "2", None, 2.5, True, 10**400])
def test_threads_are_bounded(tiny_bundle: Bundle, threads: Any) -> None:
    with pytest.raises(ConfigError, match="threads: got"):
        Predictor(tiny_bundle, threads=threads)


@pytest.mark.parametrize("count", [0, "8", 1.5])
def test_groups_of_no_prompts(tiny_bundle: Bundle, count: Any) -> None:
    with pytest.raises(ConfigError, match=f"prompts_per_call: got {count!r}, expected at least 1"):
        Predictor(tiny_bundle, prompts_per_call=count)


def test_a_closed_predictor_says_so(tiny_bundle: Bundle) -> None:
    predictor = Predictor(tiny_bundle, threads=1)
    predictor.set_image(IMAGE)
    predictor.close()
    with pytest.raises(ConfigError, match="this session is closed"):
        predictor.predict(box=BOX[0])


def test_a_disk_that_became_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong is the error, not that the clean-up cannot be done either."""

    def read_only(*arguments: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    monkeypatch.setattr(Path, "replace", read_only)
    with pytest.raises((OSError, ValueError), match=r"mask\.png|Read-only") as error:
        write_png(tmp_path / "mask.png", np.zeros((4, 4), np.uint8))
    assert type(error.value).__name__ == "ImageError"


@pytest.mark.skipif(sys.platform != "linux", reason="where any bytes may be a path")
def test_a_path_that_is_not_text(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"c\xff")
    shutil.copytree(tiny_bundle.path, folder)
    with pytest.raises(BackendUnavailable, match="not UTF-8"):
        Predictor(folder, threads=1)


def test_a_terminal_without_the_letters(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The mask is written and the command says so, as well as it can."""
    Image.fromarray(IMAGE).save(tmp_path / "bild.png")
    mask = tmp_path / "größe.png"
    arguments = ["predict", tiny_bundle.path, tmp_path / "bild.png", "--box", "5,6,40,50", "--output", mask]
    child = subprocess.run(
        [sys.executable, "-m", "samhq_runtime", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
    )
    assert (child.returncode, child.stderr) == (0, "")
    assert "gr\\xf6" in child.stdout
    assert mask.is_file()
