"""`kill -9` at random moments of a run, which is started again each time: in the end all is there, as of one run.

SAMHQ_KILLS=20 SAMHQ_KILL_IMAGES=200 python -m pytest tests/runtime/fleet/test_kills.py
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from samhq_runtime import Bundle
from tests.support.fleet_folders import make_folder, run

KILLS = int(os.environ.get("SAMHQ_KILLS", "2"))
IMAGES = int(os.environ.get("SAMHQ_KILL_IMAGES", "12"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
FORMATS = ("--format", "coco,png,yolo,label-studio")


def command(bundle: Bundle, folder: Path) -> list[str]:
    inputs = [str(bundle.path), str(folder / "images"), "--prompts", str(folder / "prompts.jsonl")]
    output = ["--output", str(folder / "out"), "--overlay", str(folder / "seen")]
    return [sys.executable, "-m", "samhq_runtime", "predict", *inputs, *output, *FORMATS]


def done(folder: Path) -> int:
    return sum(1 for below in "ab" for _ in (folder / "out" / below).glob("*.png.json"))


def kill_after(bundle: Bundle, folder: Path, images: int, delay_s: float) -> bool:
    """Start a run, kill it `delay_s` after it has done so many images more; whether it was still at it."""
    target = done(folder) + images
    child = subprocess.Popen(
        command(bundle, folder), env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while child.poll() is None and done(folder) < target:
        time.sleep(0.005)
    time.sleep(delay_s)
    child.kill()
    return child.wait() < 0


def contents(*folders: Path) -> dict[str, bytes]:
    """Every file but the report, which tells of one run, by its path in its folder."""
    files = {f"{n}/{p.relative_to(f).as_posix()}": p for n, f in enumerate(folders) for p in f.rglob("*")}
    return {name: path.read_bytes() for name, path in files.items() if path.is_file() and path.name != "report.json"}


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, IMAGES)
    whole = [*FORMATS, "--overlay", str(tmp_path / "expected_seen")]
    assert run(tiny_bundle, folder, *whole, output="expected") == 0
    random_ = random.Random(0)
    for number in range(1, KILLS + 1):
        delay_s = random_.uniform(0, 0.03)
        if not kill_after(tiny_bundle, folder, random_.randint(0, max(1, IMAGES // KILLS - 1)), delay_s):
            pytest.fail(f"the run ended before kill {number}")
    subprocess.run(command(tiny_bundle, folder), env=ENVIRONMENT, check=True)
    found, expected = (
        contents(folder / "out", folder / "seen"),
        contents(folder / "expected", tmp_path / "expected_seen"),
    )
    ours, theirs = (str(folder / name).encode() for name in ("out", "expected"))
    assert {name: content.replace(ours, theirs) for name, content in found.items()} == expected
