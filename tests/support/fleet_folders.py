"""Folders of images with a prompts file, segmented by `samhq predict`; what the fleet's tests share."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle
from samhq_runtime.cli import main

BOX = [5, 6, 40, 50]


def make_folder(folder: Path, count: int) -> Path:
    """`count` pictures in two subfolders and a prompts file beside them."""
    lines = []
    for i in range(count):
        name = f"{'ab'[i % 2]}/{i}.png"
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (40 + i % 7, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        point = {"point_coords": [[20, 30 + i % 5]], "point_labels": [1]}
        lines.append(json.dumps({"image": name, **({"box": [BOX, BOX]} if i % 3 else point)}))
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def run(bundle: Bundle, folder: Path, *options: str, output: str = "out") -> int:
    files = [str(bundle.path), str(folder / "images"), "--prompts", str(folder / "prompts.jsonl")]
    return main(["predict", *files, "--output", str(folder / output), *options])


def fill_disk(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if the disk became full whenever a file of one of these names is written."""
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name in names:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)


def results(output: Path) -> dict[str, Any]:
    """The records of a run without --format, by image."""
    files = [path for path in output.rglob("*") if path.is_file() and path.name not in ("settings.json", "report.json")]
    assert all(path.suffix == ".json" for path in files)
    return {path.relative_to(output).as_posix().removesuffix(".json"): json.loads(path.read_text()) for path in files}
