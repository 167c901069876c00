"""`samhq bench`: cases, measuring in children, plots; failures that leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samhq_runtime
from samhq_runtime import Bundle
from samhq_runtime.bench import plot, runner
from samhq_runtime.bench.cases import COLD_START, DECODER, ENCODER, END_TO_END, Case, RepeatOptions, plan
from samhq_runtime.bench.results import read_results
from samhq_runtime.bench.sample_image import sample_boxes, sample_image
from samhq_runtime.bench.stats import ratio_of_medians, summarise
from samhq_runtime.cli import main
from samhq_runtime.errors import BenchmarkError
from samhq_runtime.frames.image_files import write_png
from samhq_runtime.installing import install_command

QUICK = ["--repeats", "3", "--warm-ups", "1", "--cold-starts", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def measured(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One small run of everything: its results, and what it printed."""
    folder, picture = tmp_path_factory.mktemp("bench"), tmp_path_factory.mktemp("picture") / "picture.png"
    write_png(picture, sample_image((90, 120)))
    arguments = ["bench", str(tiny_bundle.path), "--image", str(picture), "--prompts", "2", "--images", "2", *QUICK]
    child = subprocess.run(
        [sys.executable, "-m", "samhq_runtime", *arguments, "--output", str(folder / "results.json")],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr
    assert [path.name for path in folder.iterdir()] == ["results.json"]
    return {"results": read_results(folder / "results.json"), "printed": child.stdout, "path": folder / "results.json"}


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(samhq_runtime.__file__).parent.parent)}


def test_every_measure_has_its_row(measured: dict[str, Any]) -> None:
    rows = {row["measure"]: row for row in measured["results"]["rows"]}
    assert list(rows) == [COLD_START, ENCODER, DECODER, END_TO_END]
    assert (rows[ENCODER]["images"], rows[DECODER]["prompts"], rows[DECODER]["images"]) == (2, 2, 2)
    for row in rows.values():
        assert 0 < row["p50"] <= row["p90"] <= row["p99"] <= max(row["seconds"])
    cold = rows[COLD_START]
    assert sum(cold["stages"].values()) == pytest.approx(cold["p50"])
    assert all(value > 0 for value in cold["stages"].values())


def test_memory_is_of_the_case_alone(measured: dict[str, Any]) -> None:
    for row in measured["results"]["rows"][1:]:
        memory = row["host_bytes"]
        if memory["peak_work"] is None:
            pytest.skip("this platform does not tell the peak of the work")
        assert 0 < memory["before_load"] < memory["after_load"] <= memory["peak_work"] <= memory["peak"] < 1e9


def test_result_says_what_was_measured_on_what(measured: dict[str, Any], tiny_bundle: Bundle) -> None:
    results = measured["results"]
    assert results["machine"]["cpu"]["model"]
    assert results["machine"]["libraries"]["numpy"] == np.__version__
    assert results["bundles"] == {tiny_bundle.path.name: {"variant": "custom", "precision": "fp32"}}
    assert results["settings"] == {"threads": 1, "image": "picture.png"}
    for words in ("prompts/s", "p99 ms", "first mask", "2 prompts, 2 images", results["machine"]["cpu"]["model"]):
        assert words in measured["printed"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "no bundle"),
        (["B", "--prompts", "0"], "expected numbers from 1"),
        (["B", "--repeats", "0"], "at least 1 repeat"),
        (["B", "--seconds", "0"], "more than 0 seconds"),
        (["B", "--warm-ups", "-1"], "0 or more warm-ups"),
        (["B", "--cold-starts", "0"], "--cold-starts: got 0"),
        (["B", "--measures", "speed"], "unknown measure speed"),
        (["B", "B/../B"], "folders of different names"),
        (["nowhere"], "no such folder"),
        (["B", "--image", "nowhere.png"], "no such image file"),
        (["B", "--output", "nowhere/results.json"], "nothing was measured"),
        (["B", "--compare", "a.json", "b.json"], "leave the bundles out"),
        (["--compare", "a.json", "b.json"], "a.json: not a result"),
        (["--compare", "a.json", "b.json", "--max-regression", "-1"], "expected 0 or more"),
    ],
)
def test_senseless_requests(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_bundle.path, tmp_path / "B")
    monkeypatch.setattr(runner, "_run", lambda *_: pytest.fail("something was measured"))
    assert main(["bench", *arguments]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert complaint in printed.err


def test_plan_starts_cold_and_covers_all_sizes(tmp_path: Path) -> None:
    cases = plan(
        [tmp_path / "a", tmp_path / "b"],
        providers=["cpu", "openvino"],
        measures=[DECODER, COLD_START, END_TO_END],
        prompts=[1, 8],
        images=[1, 4],
    )
    assert [case.measure for case in cases] == [COLD_START] * 4 + [DECODER] * 16 + [END_TO_END] * 8
    assert len(set(cases)) == len(cases)


@pytest.mark.parametrize(("provider", "warm_ups"), [("cpu", 3), ("openvino:bf16", 3), ("cuda", 20), ("engine", 20)])
def test_warm_ups(provider: str, warm_ups: int) -> None:
    assert RepeatOptions().warm_ups_on(provider) == warm_ups
    assert RepeatOptions(warm_ups=1).warm_ups_on(provider) == 1


def case_of(bundle: Path | str, **changes: Any) -> Case:
    return Case(**{"bundle": str(bundle), "provider": "cpu", "measure": ENCODER, **changes})


def run_one(case: Case) -> list[dict[str, Any]]:
    repeats = RepeatOptions(repeats=2, warm_ups=0)
    return runner.run_cases([case], image=Path("x"), repeats=repeats, threads=1, cold_starts=1, notice=lambda _: None)


def test_error_of_the_child_is_the_parents(tiny_bundle: Bundle) -> None:
    with pytest.raises(BenchmarkError, match=r"encoder, 1 images: .*unknown provider gpu"):
        run_one(case_of(tiny_bundle.path, provider="gpu"))


def test_killed_child_is_told_apart(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed:
        returncode = -signal.SIGTERM

    monkeypatch.setattr(runner.subprocess, "run", lambda *_, **__: Killed())
    with pytest.raises(BenchmarkError, match="killed, most likely for want of memory; try fewer"):
        run_one(case_of(tiny_bundle.path))


def test_ctrl_c_ends_it_and_writes_nothing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    arguments = ["bench", str(tiny_bundle.path), "--measures", ENCODER, "--repeats", "1000000", "--seconds", "600"]
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments, "--output", str(output)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stderr is not None
    assert "[1/2]" in child.stderr.readline()
    time.sleep(1.0)
    os.killpg(child.pid, signal.SIGINT)  # what a terminal sends: to the parent and to its child
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert err == "error: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


# A shell's background job ignores SIGINT, and so would its children.
INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from samhq_runtime.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_plot(measured: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    plot.plot_results(measured["results"], tmp_path / "plot.png")
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_is_told_before_measuring(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(runner, "_run", lambda *_: pytest.fail("something was measured"))
    assert main(["bench", str(tiny_bundle.path), "--plot", str(tmp_path / "plot.png")]) == 1
    assert f"matplotlib is missing: {install_command('plot')}" in capsys.readouterr().err


def test_summaries_and_ratios() -> None:
    summary = summarise([0.3, 0.1, 0.2, 0.5, 0.4])
    assert (summary["p50"], summary["repeats"], summary["seconds"]) == (0.3, 5, [0.3, 0.1, 0.2, 0.5, 0.4])
    assert summary["p50"] < summary["p90"] < summary["p99"] < 0.5
    ratio = ratio_of_medians([2.0, 2.2, 1.8, 2.1], [1.0, 1.0, 1.1, 0.9])
    assert ratio.value == pytest.approx(2.05)
    assert 1.5 < ratio.low < ratio.value < ratio.high < 2.5
    assert ratio == ratio_of_medians([2.0, 2.2, 1.8, 2.1], [1.0, 1.0, 1.1, 0.9])


def test_drawn_picture_and_boxes_are_the_same_every_time() -> None:
    image = sample_image((60, 90))
    assert (image.shape, image.dtype) == ((60, 90, 3), np.uint8)
    assert (image == sample_image((60, 90))).all()
    assert image.std() > 20
    boxes = sample_boxes(16, (60, 90))
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes >= 0).all()
    assert (boxes <= (90, 60, 90, 60)).all()
    assert sample_image((10, 3000)).shape == (10, 3000, 3)
