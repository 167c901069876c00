"""Runs each case in a new process and gathers the answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import BenchmarkError
from .cases import COLD_START, Case, RepeatOptions
from .stats import summarise

_PACKAGE_ROOT = str(Path(__file__).parents[2])


def run_cases(
    cases: Sequence[Case],
    *,
    image: Path,
    repeats: RepeatOptions,
    threads: int,
    cold_starts: int,
    notice: Callable[[str], None],
) -> list[dict[str, Any]]:
    """One row per case, in order.

    Args:
        image: the image file of cold starts and end-to-end cases.
        repeats: how often the others are measured.
        cold_starts: processes started for a cold start row; other cases take one.
        notice: called with what runs now.

    Raises:
        BenchmarkError: a case failed, or its process was killed.
    """
    rows = []
    for number, case in enumerate(cases, start=1):
        notice(f"[{number}/{len(cases)}] {case}")
        job = {
            "case": asdict(case),
            "image": str(image),
            "threads": threads,
            "repeats": asdict(repeats),
        }
        if case.measure == COLD_START:
            answer = _join_cold_starts([_run(case, job) for _ in range(cold_starts)])
        else:
            answer = _run(case, job)
        rows.append(_row(case, answer))
    return rows


def _row(case: Case, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, with throughput and energy per image (per prompt of a decoder)."""
    joules = {name: value / case.items for name, value in answer.pop("joules_per_call", {}).items()}
    throughput = {"items_per_second": case.items / answer["mean"], "joules_per_item": joules}
    return {**asdict(case), "bundle": Path(case.bundle).name, "items": case.items, **answer, **throughput}


def _run(case: Case, job: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        job_path, answer_path = Path(folder, "job.json"), Path(folder, "answer.json")
        job_path.write_text(json.dumps({**job, "started": time.monotonic()}))
        command = [sys.executable, "-m", f"{__package__}.worker", str(job_path), str(answer_path)]
        status = subprocess.run(command, env=_environment()).returncode
        if not answer_path.exists():
            reason = "killed, most likely for want of memory" if status < 0 else f"ended with status {status}"
            raise BenchmarkError(f"{case}: its process was {reason}; try fewer prompts or images at once")
        answer = json.loads(answer_path.read_text())
    if "error" in answer:
        raise BenchmarkError(f"{case}: {answer['error']}")
    return answer


def _join_cold_starts(answers: list[dict[str, Any]]) -> dict[str, Any]:
    stages = [answer["stages"] for answer in answers]
    return {
        **summarise([answer["seconds"] for answer in answers]),
        "stages": {name: summarise([stage[name] for stage in stages])["p50"] for name in stages[0]},
        "host_bytes": {"peak": max((a["peak_bytes"] for a in answers if a["peak_bytes"]), default=None)},
    }


def _environment() -> dict[str, str]:
    """The child finds this package even when only the parent's `sys.path` does."""
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([_PACKAGE_ROOT, *([inherited] if inherited else [])])}
