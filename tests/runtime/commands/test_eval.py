"""`samhq eval` on demo bundles, interrupted, and refusing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.scenes.drawing import draw_scene
from samhq_runtime import Bundle
from samhq_runtime.cli import main
from tests.support.eval_datasets import left_halves, small_dataset, write_coco


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return small_dataset(tmp_path / "data")


@pytest.fixture(scope="module")
def demo_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [draw_scene(seed) for seed in held_out_seeds(3)]
    return write_coco(tmp_path_factory.mktemp("scenes"), [(scene.image, scene.masks) for scene in scenes])


def test_command_on_demo_bundles(
    demo_bundle: Bundle, demo_bundle_fp16: Bundle, demo_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(demo_scenes.read_text())
    content["annotations"].append({"id": 99, "image_id": 99, "segmentation": [], "iscrowd": 0})
    demo_scenes.with_name("dangling.json").write_text(json.dumps(content))
    command = ["eval", str(demo_bundle.path), str(demo_bundle_fp16.path), "--output", str(tmp_path / "out")]
    command += ["--dataset", str(demo_scenes.with_name("dangling.json")), "--worst", "1"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scores = [bundle["scores"] for bundle in report["bundles"]]
    assert [bundle["precision"] for bundle in report["bundles"]] == ["fp32", "fp16"]
    assert scores[0]["objects"] == scores[1]["objects"] == len(content["annotations"]) - 1
    assert scores[0]["mean_iou"] > 0.5
    assert abs(report["comparisons"][0]["mean_iou_difference"]) < 0.01
    assert report["skipped_counts"] == {"annotation of an unknown image": 1}
    assert "left out, annotation of an unknown image: 1 (image id 99: 99)" in out
    assert re.search(r"^written to .*: report.json, calibration.svg, .*worst-01.png$", out, re.MULTILINE)
    assert err.startswith("evaluate ...")
    assert main(command) == 0
    again, err = capsys.readouterr()
    assert again == out
    assert err == "6 of 6 images were measured in an earlier run\n"


def test_command_interrupted(
    tiny_bundle: Bundle,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left_halves(monkeypatch).stop_after = 2
    command = ["eval", str(tiny_bundle.path), "--dataset", str(dataset), "--output", str(tmp_path / "out")]
    assert main(command) == 130
    out, err = capsys.readouterr()
    assert not out
    assert f"error: interrupted; the images that were finished are kept in {tmp_path / 'out'}" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["BUNDLE", "--dataset", "nowhere", "--output", "out"], "no such dataset"),
        (["nowhere", "--dataset", "DATASET", "--output", "out"], "no such folder"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--masks", "."], "--masks goes with a folder"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--images", "."], "image missing"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--images", "no"], "no such folder of images"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--providers", "gpu"], "unknown provider gpu"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "data/1.png/x"], "Not a directory"),
    ],
)
def test_command_fails_with_one_message(
    tiny_bundle: Bundle,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(dataset.parent.parent)
    names = {"BUNDLE": str(tiny_bundle.path), "DATASET": str(dataset)}
    assert main(["eval", *(names.get(word, word) for word in arguments)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: ")
    assert complaint in err
    assert not Path("out/report.json").exists()


def test_options_of_datasets_reach_the_dataset(
    dataset: Path,
    demo_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CVAT's file: everything is a crowd; and two annotations have one id."""
    left_halves(monkeypatch)
    content = json.loads(dataset.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    content["annotations"][1]["id"] = content["annotations"][0]["id"]
    dataset.write_text(json.dumps(content))
    command = [
        "eval",
        str(demo_bundle.path),
        "--dataset",
        str(dataset),
        "--output",
        str(tmp_path / "out"),
        "--worst",
        "0",
    ]
    assert main(command) == 1
    assert "--include-crowd takes it in" in capsys.readouterr().err
    assert main([*command, "--include-crowd"]) == 0
    assert "1 annotations have the id of another" in capsys.readouterr().err
