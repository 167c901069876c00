"""A folder of images on a local Ray cluster, a worker killed in the middle, against the same folder in one process.

    python -m benchmarks fleet BUNDLE --docs

Every run is `samhq predict BUNDLE FOLDER --prompts FILE` in a process of its own: serially, with one Ray worker, with
two, and with two of which one is killed when a third of the images is done. Each must leave one complete file per image
and the serial run's masks. Rates count from the first result to the last, without Python's and Ray's start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recording import Record, described
from samhq_runtime.bench.sample_image import sample_boxes, sample_image
from samhq_runtime.frames.image_files import write_png
from samhq_runtime.tables import format_table

_POLL_S = 0.01
_IOU_TOLERANCE = 1e-4
# name of a run: options of the command beside the folders, and whether a worker is killed
RUNS: dict[str, tuple[tuple[str, ...], bool]] = {
    "serial": ((), False),
    "1 worker": (("--ray", "local", "--workers", "1", "--worker-cpus", "0.5"), False),
    "2 workers": (("--ray", "local", "--workers", "2", "--worker-cpus", "0.5"), False),
    "2 workers, 1 killed": (("--ray", "local", "--workers", "2", "--worker-cpus", "0.5"), True),
}


@dataclass(frozen=True)
class Folder:
    """Images, their prompts, and the results of every run, below one path."""

    path: Path
    count: int

    def command(self, bundle: Path, output: str, *options: str) -> list[str]:
        inputs = [str(bundle), str(self.path / "images"), "--prompts", str(self.path / "prompts.jsonl")]
        output_folder = str(self.path / output)
        return [sys.executable, "-m", "samhq_runtime", "predict", *inputs, "--output", output_folder, *options]

    def done(self, output: str) -> int:
        return sum(1 for path in (self.path / output).rglob("*.png.json"))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=int, default=500)


def measure(options: argparse.Namespace, record: Record) -> None:
    """All runs at once: they are compared with each other."""
    record.require_setting({"bundle": described(options.bundle), "images": options.images})
    if "runs" in record.content:
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(Path(scratch), options.images)
        figures = {name: run(folder, options.bundle, name) for name in RUNS}
        for name in RUNS:
            if name != "serial":
                figures[name]["images_that_differ_from_serial"] = differences(folder, name)
    record.content["runs"] = figures
    record.save()


def breaches(content: Mapping[str, Any]) -> list[str]:
    differ = {name: run.get("images_that_differ_from_serial", 0) for name, run in content["runs"].items()}
    return [f"{name}: {count} images differ from the serial run's" for name, count in differ.items() if count]


def make_folder(path: Path, count: int) -> Folder:
    """`count` pictures of 240 to 480 pixels a side, each with two boxes or one point."""
    lines = []
    for i in range(count):
        hw = (240 + i % 7 * 40, 480 - i % 5 * 40)
        name = f"{i % 10}/{i}.png"
        (path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(path / "images" / name, sample_image(hw, seed=i))
        box = {"box": sample_boxes(2, hw, seed=i).tolist()}
        point = {"point_coords": [[100, 100]], "point_labels": [1]}
        lines.append(json.dumps({"image": name, **(box if i % 3 else point)}))
    (path / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    return Folder(path, count)


def run(folder: Folder, bundle: Path, name: str) -> dict[str, Any]:
    """Run the command of that name to its end; ends this program if it fails."""
    options, kill = RUNS[name]
    start = time.perf_counter()
    process = subprocess.Popen(folder.command(bundle, name, *options), stdout=subprocess.PIPE, text=True)
    first, at_first, done_at_kill = 0.0, 0, None
    while process.poll() is None:
        done = folder.done(name)
        if done and not first:
            first, at_first = time.perf_counter(), done
        if kill and done_at_kill is None and done >= folder.count // 3:
            done_at_kill = kill_a_worker(process.pid) and folder.done(name)
        time.sleep(_POLL_S)
    end = time.perf_counter()
    said = process.communicate()[0]
    if process.returncode or f"{folder.count} images segmented" not in said:
        raise SystemExit(f"{name}: ended with {process.returncode}: {said}")
    rate = (folder.count - at_first) / (end - first)
    figures = {"seconds": round(end - start, 1), "images_per_second": round(rate, 2), "files": folder.done(name)}
    return {**figures, "files_when_killed": done_at_kill} if kill else figures


def kill_a_worker(ancestor: int) -> int:
    """SIGKILL one Ray actor of the cluster that process `ancestor` started; returns its process id, 0 for none."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and b"MapWorker" in _read(process / "cmdline") and ancestor in _parents(process):
            os.kill(int(process.name), signal.SIGKILL)
            return int(process.name)
    return 0


def differences(folder: Folder, name: str) -> int:
    """Images whose masks are not those of the serial run to the bit, or whose predicted IoU is beyond rounding."""
    wrong = 0
    for path in (folder.path / "serial").rglob("*.png.json"):
        expected = json.loads(path.read_text())
        found = json.loads((folder.path / name / path.relative_to(folder.path / "serial")).read_text())
        same_iou = np.allclose(found.pop("iou_predictions"), expected.pop("iou_predictions"), atol=_IOU_TOLERANCE)
        wrong += not (same_iou and found == expected)
    return wrong


def _parents(process: Path) -> Sequence[int]:
    parents: list[int] = []
    pid = int(process.name)
    while pid > 1 and (status := _read(Path(f"/proc/{pid}/stat"))):
        pid = int(status.rpartition(b")")[2].split()[1])
        parents.append(pid)
    return parents


def _read(path: Path) -> bytes:
    """Nothing for a process that has ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    runs = content["runs"]
    rows = [
        (_label(name, run), f"{run['images_per_second']:.1f}", f"{run['seconds']:.1f} s") for name, run in runs.items()
    ]
    ratio = runs["2 workers"]["images_per_second"] / runs["1 worker"]["images_per_second"]
    same = "are the serial run's to the bit" if not breaches(content) else "differ from the serial run's"
    return {
        "fleet": f"{format_table(('run', 'images a second', 'whole command'), rows)}\n\n"
        f"Each run left {runs['serial']['files']} complete files; their masks {same}. From one worker to two: "
        f"{ratio:.2f} times as fast."
    }


def _label(name: str, run: Mapping[str, Any]) -> str:
    return f"{name} when {run['files_when_killed']} files were there" if "files_when_killed" in run else name
