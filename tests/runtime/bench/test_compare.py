"""Result files of `samhq bench`, and what a comparison of two of them says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.bench.cases import MEASURES
from samhq_runtime.bench.compare import compare, differences
from samhq_runtime.bench.results import read_results, write_results
from samhq_runtime.cli import main
from samhq_runtime.errors import BenchmarkError

RESULTS: dict[str, Any] = {
    "machine": {"cpu": {"model": "Fast CPU", "mhz_at_start": 3000.0}},
    "settings": {"threads": 1, "image": [1200, 1800]},
    "rows": [
        {
            "bundle": "before",
            "provider": "cpu",
            "measure": measure,
            "prompts": 2,
            "images": 2,
            "seconds": [0.9, 1.0, 1.1],
            "host_bytes": {"peak": 1_000_000_000},
        }
        for measure in MEASURES
    ],
}


def test_comparison_with_itself_is_no_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "results.json")
    write_results(tmp_path / "results.json", RESULTS)
    assert main(["bench", "--compare", path, path, "--max-regression", "0"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count(" 1.00 (") == 4
    assert printed.err == ""


def slower(results: dict[str, Any], *, factor: float = 1.0, memory: float = 1.0) -> dict[str, Any]:
    changed = json.loads(json.dumps(results))
    row = changed["rows"][2]
    row["seconds"] = [s * factor for s in [1.0, 1.01, 0.99, 1.0, 1.0, 1.02]]
    row["host_bytes"]["peak"] = int(1e9 * memory)
    return changed


@pytest.mark.parametrize(
    ("factor", "memory", "bound", "complaint"),
    [
        (1.3, 1.0, "0.1", "decoder, 2 prompts, 2 images: 1.30 times the time"),
        (1.3, 1.0, "0.5", ""),
        (0.5, 1.0, "0", ""),
        (1.0, 1.2, "0.1", "decoder, 2 prompts, 2 images: 1.20 times the memory"),
    ],
)
def test_regression(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    factor: float,
    memory: float,
    bound: str,
    complaint: str,
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_results(old, slower(RESULTS))
    write_results(new, slower(RESULTS, factor=factor, memory=memory))
    code = main(["bench", "--compare", str(old), str(new), "--max-regression", bound])
    printed = capsys.readouterr()
    assert (code, complaint in printed.err) == (1 if complaint else 0, True)
    assert printed.out.count("|") > 20


def test_noise_alone_is_no_regression() -> None:
    old, new = slower(RESULTS), slower(RESULTS)
    old["rows"][2]["seconds"], new["rows"][2]["seconds"] = [1.0, 2.0, 1.0, 2.0, 1.0], [2.0, 1.0, 2.0, 1.0, 2.0]
    comparison = compare(old, new)[2]
    assert comparison.time.value == 2
    assert comparison.time.low < 1
    assert comparison.regression(0.1) == ""


def test_case_that_was_not_measured_again() -> None:
    new = {**RESULTS, "rows": RESULTS["rows"][:2]}
    with pytest.raises(BenchmarkError, match=r"not measured in the new results: .*decoder.*; .*end to end"):
        compare(RESULTS, new)


def test_one_bundle_each_is_compared_under_any_name() -> None:
    renamed = slower(RESULTS)
    for row in renamed["rows"]:
        row["bundle"] = "after"
    assert len(compare(RESULTS, renamed)) == 4


def test_other_machine_is_told() -> None:
    other = slower(RESULTS)
    other["machine"]["cpu"]["mhz_at_start"] = 1.0  # clocks change from minute to minute
    assert differences(RESULTS, other) == []
    other["machine"]["cpu"]["model"] = "Slow CPU"
    other["settings"]["threads"] = 2
    machine, settings = differences(RESULTS, other)
    assert "Slow CPU" in machine
    assert "'threads': 2" in settings


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 1, "rows": []}', '{"schema_version": 9}'])
def test_not_a_result_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BenchmarkError, match=r"x\.json"):
        read_results(tmp_path / "x.json")


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_results(path, {"rows": object()})
    with pytest.raises(OSError, match=r"[Ii]s a directory"):
        write_results(tmp_path, {"rows": []})
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("results.json", "old")]
