"""Every benchmark has its row, its help and its tables; every table in the docs is what its record gives."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.__main__ import main, published
from benchmarks.pages import ROOT, between_markers, markers_of
from benchmarks.registry import BENCHMARKS, OVERVIEWS, RESULTS, Benchmark
from tests.support.required import required

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN_ELSEWHERE = {"contract", "kinds"}  # tests/test_docs.py, tests/hostile/test_kinds.py
NEEDS = {"checkpoint_parity": "transformers", "eval_demo": "pycocotools", "ablation": "tqdm", "serve_load": "grpc"}

each_benchmark = pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=lambda row: row.name, indirect=True)


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> Benchmark:
    if package := NEEDS.get(request.param.name):
        required(package, install="samhq-export[test]")
    return request.param


@each_benchmark
def test_help(benchmark: Benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([benchmark.name, "--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: python -m benchmarks {benchmark.name} [-h]")
    assert all(option in said for option in ("--output", "--resume", "--overwrite"))
    assert f"    python -m benchmarks {benchmark.name}" in said  # the docstring's example


@each_benchmark
def test_tables_are_those_of_the_record(benchmark: Benchmark) -> None:
    """`python -m benchmarks tables` writes them."""
    assert benchmark.record.exists() == bool(benchmark.tables)
    if benchmark.tables:
        shown = {marker: between_markers(ROOT / page, marker) for marker, page in benchmark.tables.items()}
        assert shown == published(benchmark)


@pytest.mark.parametrize("marker", OVERVIEWS)
def test_tables_of_several_benchmarks(marker: str) -> None:
    page, table = OVERVIEWS[marker]
    assert between_markers(ROOT / page, marker) == table()


def test_every_marker_has_a_row() -> None:
    rows = [(page, marker) for row in BENCHMARKS.values() for marker, page in row.tables.items()]
    rows += [(page, marker) for marker, (page, _) in OVERVIEWS.items()]
    found = [(page.relative_to(ROOT).as_posix(), marker) for page in PAGES for marker in markers_of(page)]
    assert Counter(f for f in found if f[1] not in WRITTEN_ELSEWHERE) == Counter(rows)


def test_every_record_and_module_has_a_row() -> None:
    assert {path.stem for path in RESULTS.iterdir()} <= BENCHMARKS.keys()
    modules = {path.stem for path in (ROOT / "benchmarks" / "measure").glob("*.py")} - {"__init__"}
    assert BENCHMARKS.keys() <= modules
    parts = {name for name in modules if name.rpartition("_")[0] in BENCHMARKS}  # such as ablation_statistics
    assert modules == BENCHMARKS.keys() | parts


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_documented_benchmarks_exist(page: Path) -> None:
    for command in re.findall(r"python -m benchmarks ([^`#\n]*)", page.read_text(encoding="utf-8")):
        name = (shlex.split(command) or ["tables"])[0]
        assert name in {*BENCHMARKS, "tables", "NAME"}, command


def test_list() -> None:
    """As a program, and without what benchmarks import."""
    code = "import sys; from benchmarks.__main__ import main; main([]); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert said.endswith("False\n")
    assert all(name in said and row.question in said for name, row in BENCHMARKS.items())


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["tables", "nothing"], ["input_size", "--docs", "--output", "x.json"]]
)
def test_what_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert "expected" in str(error.value) or "leave --output out" in capsys.readouterr().err
