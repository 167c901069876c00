"""Records: what a run keeps, what it refuses, and what stands above the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import recording
from benchmarks.pages import require_markers, write_between_markers
from benchmarks.recording import caption, open_record, read_record

MACHINE = {
    "cpu": {"model": "A", "cores_usable": 2, "features": ["avx2"]},
    "python": "3.11.7",
    "libraries": {"numpy": "2"},
}
RUN = {"date": "2026-11-30", "commit": "abc1234", "machine": MACHINE}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What this run says of itself; tests change it."""
    here: dict[str, Any] = json.loads(json.dumps(RUN))
    monkeypatch.setattr(recording, "describe_run", lambda libraries: here)
    return here


def measured(path: Path, *, resume: bool = False, overwrite: bool = False, setting: Any = None) -> dict[str, Any]:
    """A benchmark of three rows, each of which is saved; the rows that it had to measure."""
    record = open_record(path, resume=resume, overwrite=overwrite)
    record.require_setting(setting or {"scenes": 4, "sizes": (1, 2)})
    rows = record.content.setdefault("rows", {})
    new = {name: 0 for name in ("a", "b", "c") if name not in rows}
    for name in new:
        rows[name] = 0
        record.save()
    return new


def test_record_says_where_and_when(tmp_path: Path) -> None:
    measured(tmp_path / "deep" / "r.json")
    (found,) = read_record(tmp_path / "deep" / "r.json")["measured"]
    assert found["date"][:2] == "20"
    assert found["machine"]["cpu"]["model"]
    assert found["machine"]["libraries"]["samhq-export"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r.json"]


def test_resumed_run_measures_what_is_missing(tmp_path: Path, run: dict[str, Any]) -> None:
    path = tmp_path / "r.json"
    assert list(measured(path)) == ["a", "b", "c"]
    content = read_record(path)
    del content["rows"]["b"]
    path.write_text(json.dumps(content))
    run["date"] = "2026-12-01"
    assert list(measured(path, resume=True)) == ["b"]
    assert [found["date"] for found in read_record(path)["measured"]] == ["2026-11-30", "2026-12-01"]
    run["date"] = "2026-12-02"
    assert not measured(path, resume=True)
    assert len(read_record(path)["measured"]) == 2  # a run that measured nothing is not among them
    assert list(measured(path, overwrite=True)) == ["a", "b", "c"]
    assert [found["date"] for found in read_record(path)["measured"]] == ["2026-12-02"]


@pytest.mark.parametrize(
    ("options", "model", "complaint"),
    [
        ({}, "A", "exists; --resume to go on with it, --overwrite"),
        ({"resume": True, "setting": {"scenes": 5, "sizes": [1, 2]}}, "A", r"another setting \(scenes 4, now 5\)"),
        ({"resume": True}, "B", "was measured on A, this is B; name another file"),
    ],
)
def test_what_would_lose_or_mix_figures_is_refused(
    tmp_path: Path, run: dict[str, Any], options: dict[str, Any], model: str, complaint: str
) -> None:
    measured(tmp_path / "r.json")
    before = (tmp_path / "r.json").read_bytes()
    run["machine"]["cpu"]["model"] = model
    with pytest.raises(SystemExit, match=complaint):
        measured(tmp_path / "r.json", **options)
    assert (tmp_path / "r.json").read_bytes() == before


PLACE = "2 cores of A (avx2); Python 3.11.7, numpy 2"


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], "Processor, versions, date and commit were not recorded."),
        ([RUN], f"{PLACE}; 2026-11-30 at commit abc1234."),
        (
            [RUN, {**RUN, "date": "2026-12-01", "commit": None}],
            f"{PLACE}; 2026-11-30 at commit abc1234, 2026-12-01 at commit unknown.",
        ),
        ([{"machine": MACHINE}], f"{PLACE}; date and commit were not recorded."),
        (
            [{**RUN, "machine": {"libraries": {"torch": "2"}}}, RUN],
            f"torch 2; 2026-11-30 at commit abc1234. {PLACE}; 2026-11-30 at commit abc1234.",
        ),
        (
            [{**RUN, "machine": {"gpus": [{"name": "G", "driver": "570"}], "python": "3"}}],
            "G, driver 570; Python 3; 2026-11-30 at commit abc1234.",
        ),
    ],
)
def test_caption(runs: list[dict[str, Any]], expected: str) -> None:
    assert caption({"measured": runs}) == expected


def test_table_between_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- t: begin -->\nold\n<!-- t: end -->\nbelow\n")
    write_between_markers(page, "t", "| new |")
    assert page.read_text() == "above\n<!-- t: begin -->\n| new |\n<!-- t: end -->\nbelow\n"
    for text in ("", "<!-- t: begin -->\n", "<!-- t: end -->\n<!-- t: begin -->\n"):
        page.write_text(text)
        with pytest.raises(SystemExit, match="expected <!-- t: begin -->"):
            require_markers(page, "t")
