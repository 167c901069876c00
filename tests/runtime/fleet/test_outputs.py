"""Runs over many images: which images, what is written, what another run adds, and what fails alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from multiprocessing import Pipe, get_context
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle
from samhq_runtime.cli import main
from samhq_runtime.fleet import processes
from samhq_runtime.fleet.jobs import ImageJob
from samhq_runtime.fleet.segmenter import FleetOptions, Segmenter
from samhq_runtime.formats import Outputs
from tests.support.fleet_folders import BOX, fill_disk, make_folder, results, run


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_formats_and_pictures_are_added_without_segmenting_again(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, 3)
    assert run(tiny_bundle, folder) == 0
    before = results(folder / "out")
    monkeypatch.setattr(Segmenter, "_predict", lambda *args: pytest.fail("segmented again"))
    assert run(tiny_bundle, folder, "--format", "coco,npz,labelme", "--overlay", str(tmp_path / "seen")) == 0
    assert "5 objects, also as coco, npz, labelme in" in capsys.readouterr().out
    coco = read(folder / "out/coco/annotations.json")
    assert [image["file_name"] for image in coco["images"]] == ["a/0.png", "b/1.png", "a/2.png"]
    masks = [rle for name in ("a/0.png", "b/1.png", "a/2.png") for (rle,) in before[name]["masks"]]
    assert [annotation["segmentation"] for annotation in coco["annotations"]] == masks
    assert np.load(folder / "out/npz/b/1.png.npz")["masks"].shape == (2, 41, 60)
    seen = np.asarray(Image.open(tmp_path / "seen/b/1.png.png"))
    assert (seen[BOX[1], BOX[0]] == (255, 220, 0)).all()  # the box of the prompt


def test_what_was_corrected_by_hand_stays(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    """Unless its prompts are others; and nothing is mixed with polygons of another tolerance."""
    folder = make_folder(tmp_path, 2)
    assert run(tiny_bundle, folder, "--format", "labelme") == 0
    ours, corrected = folder / "out/labelme/b/1.json", '{"shapes": []}'
    ours.write_text(corrected)
    assert run(tiny_bundle, folder, "--format", "labelme") == 0
    assert ours.read_text() == corrected
    assert run(tiny_bundle, folder, "--format", "labelme", "--simplify", "1") == 1
    assert "has results of other settings ({'simplify': 0.0})" in capsys.readouterr().err
    prompts = (folder / "prompts.jsonl").read_text()
    (folder / "prompts.jsonl").write_text(prompts.replace("[5, 6, 40, 50]", "[5, 6, 41, 50]"))
    assert run(tiny_bundle, folder, "--format", "labelme") == 0
    assert ours.read_text() != corrected


def test_ids_of_a_coco_file_stay(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, 2)
    annotation = {"id": 70, "image_id": 9, "category_id": 4, "bbox": [5, 6, 30, 20]}
    images = [{"id": 9, "file_name": "b/1.png"}, {"id": 3, "file_name": "gone.png"}]
    content = {"images": images, "annotations": [annotation, {**annotation, "id": 71, "image_id": 8}]}
    (folder / "instances.json").write_text(json.dumps({**content, "categories": [{"id": 4, "name": "rock"}]}))
    asked = ["predict", str(tiny_bundle.path), str(folder / "images"), "--prompts", str(folder / "instances.json")]
    assert main([*asked, "--output", str(folder / "out"), "--format", "coco"]) == 1
    error = capsys.readouterr().err
    assert "left out: 1 annotations: an unknown image, such as annotation 71: image id 8" in error
    assert "gone.png: " in error
    assert "no such image file" in error
    written = read(folder / "out/coco/annotations.json")
    assert [image["id"] for image in written["images"]] == [9]
    (found,) = written["annotations"]
    assert (found["id"], found["image_id"], found["category_id"]) == (70, 9, 4)
    report = read(folder / "out/report.json")
    assert (report["segmented"], list(report["failed"]), report["objects"]) == (1, ["gone.png"], 1)


@pytest.mark.parametrize("source", ["images/b/*.png", "list.txt", "elsewhere/list.txt"])
def test_patterns_and_lists_choose_images(tiny_bundle: Bundle, tmp_path: Path, capsys: Any, source: str) -> None:
    folder = make_folder(tmp_path, 4)
    (folder / "elsewhere").mkdir()
    (folder / "list.txt").write_text("images/b/1.png\nimages/b/3.png\n\nimages/b/1.png\n")
    (folder / "elsewhere/list.txt").write_text("../images/b/1.png\n../images/b/3.png\n")
    named = "images/b/{}.png" if "list" in source else "{}.png"
    prompts = {named.format(1): [BOX], named.format(5): [BOX]}
    (folder / "boxes.json").write_text(json.dumps(prompts))
    asked = ["predict", str(tiny_bundle.path), str(folder / source), "--prompts", str(folder / "boxes.json")]
    assert main([*asked, "--output", str(folder / "out")]) == 0
    error = capsys.readouterr().err
    assert f"left out: 1 images without prompts, such as {named.format(3)}" in error
    assert f"left out: 1 images with prompts that are not among the chosen, such as {named.format(5)}" in error
    assert list(results(folder / "out")) == [named.format(1)]


def test_the_same_boxes_for_every_image(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 3)
    (folder / "boxes.json").write_text(json.dumps([BOX]))
    asked = ["predict", str(tiny_bundle.path), str(folder / "images/a/*.png"), "--prompts", str(folder / "boxes.json")]
    assert main([*asked, "--output", str(folder / "out"), "--format", "yolo"]) == 0
    assert sorted(results_below(folder / "out/yolo/labels")) == ["0.txt", "2.txt"]


def results_below(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_full_disk_is_one_line_and_keeps_what_is_done(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, 2)
    fill_disk(monkeypatch, "annotations.json", "1.txt")
    assert run(tiny_bundle, folder, "--format", "coco,yolo") == 1
    error = capsys.readouterr().err
    assert "b/1.png: its results cannot be written (No space left on device)" in error
    assert f"{folder / 'out' / 'coco'}: cannot be written (No space left on device); what was found is kept" in error
    assert (folder / "out/a/0.png.json").exists()
    assert not (folder / "out/b/1.png.json").exists()
    monkeypatch.undo()
    assert run(tiny_bundle, folder, "--format", "coco,yolo") == 0
    assert "1 images segmented, 1 were done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--format", "coco,tiff"], "--format: got 'tiff', expected some of coco,png"),
        (["--simplify", "-1"], "--simplify: got -1"),
        (["--workers", "0"], "--workers and --worker-cpus: expected more than 0"),
        (["--min-score", "nan"], "--min-score: got nan"),
    ],
)
def test_options_that_are_refused(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, options: list[str], complaint: str
) -> None:
    assert run(tiny_bundle, make_folder(tmp_path, 1), *options) == 1
    assert f"error: {complaint}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_format_is_for_many_images(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    image = str(make_folder(tmp_path, 1) / "images/a/0.png")
    assert main(["predict", str(tiny_bundle.path), image, "--format", "coco", "--output", "x"]) == 1
    assert "--format: for many images; give their prompts with --prompts" in capsys.readouterr().err
    asked = ["--prompts", str(tmp_path / "prompts.jsonl"), "--output", "x"]
    assert main(["predict", str(tiny_bundle.path), image, *asked]) == 1
    assert "one image; expected a folder, a pattern or a list" in capsys.readouterr().err


class _Ended(Segmenter):
    """Its process is killed at one image, as by a system that is short of memory."""

    def run(self, job: ImageJob) -> str:
        if job.image == "b/1.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(job)


def test_workers_do_the_same_and_outlive_one_that_is_killed(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, 4)
    assert run(tiny_bundle, folder, "--format", "coco", output="one") == 0
    monkeypatch.setattr(processes, "Segmenter", _Ended)
    monkeypatch.setattr(processes, "_CONTEXT", get_context("fork"))  # so that the child has the class above
    assert run(tiny_bundle, folder, "--workers", "2") == 1
    error = capsys.readouterr().err
    assert "b/1.png: the process that segmented it was ended by SIGKILL" in error
    assert "1 of 4 images could not be segmented" in error
    monkeypatch.undo()
    assert run(tiny_bundle, folder, "--workers", "2", "--format", "coco") == 0
    assert "1 images segmented, 3 were done already" in capsys.readouterr().out
    assert read(folder / "out/coco/annotations.json") == read(folder / "one/coco/annotations.json")


def test_a_worker_that_is_killed_before_it_has_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was seen alive, that is: the image is one that failed."""
    ours, theirs = Pipe()
    theirs.send("ready")
    theirs.close()
    process = Mock(exitcode=-signal.SIGKILL, is_alive=Mock(side_effect=[True, False]))
    monkeypatch.setattr(processes, "_start", lambda options: processes._Worker(process, ours))
    options = FleetOptions(bundle=tmp_path, images=tmp_path, outputs=Outputs(folder=tmp_path))
    ((image, error),) = processes.run([ImageJob("a.png", {"box": BOX})], options, workers=1)
    assert (image, error) == ("a.png", "the process that segmented it was ended by SIGKILL")
    assert read(tmp_path / "a.png.json")["error"] == error
