"""`samhq compare`: the table, the pictures, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import main
from samhq_runtime.comparison import Side, compare_image
from samhq_runtime.errors import PromptError
from samhq_runtime.evaluation.metrics import iou
from samhq_runtime.frames.image_files import read_image
from samhq_runtime.masks.overlay import draw_comparison

BOX = ("--box", "5,6,40,30")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def rows(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / "differences.csv").open(encoding="utf-8")))


def test_sam_against_hq_of_one_bundle(tiny_bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, seen = str(tiny_bundle.path), folder / "seen"
    command = ["compare", bundle, bundle, str(folder / "?.png"), *BOX, "--tokens", "sam,all", "--output", str(seen)]
    assert main(command) == 0
    with Predictor(tiny_bundle) as predictor:
        predictor.set_image(read_image(folder / "a.png"))
        asked = {"box": (5, 6, 40, 30), "multimask_output": False}
        sam, both = predictor.predict(**asked, sam_tokens_only=True)[0], predictor.predict(**asked)[0]
    expected = iou(sam[0], both[0])
    (first, second) = rows(seen)
    assert (first["image"], float(first["iou"])) == (str(folder / "a.png"), pytest.approx(expected, abs=1e-6))
    assert [int(first["pixels_1"]), int(first["pixels_2"])] == [sam.sum(), both.sum()]
    worst = min((first, second), key=lambda row: float(row["iou"]))
    assert sorted(path.name for path in seen.glob("*.png")) == ["differ-01.png", "differ-02.png"]
    number = 1 if worst is first else 2
    name = tiny_bundle.path.name
    picture = draw_comparison(
        read_image(folder / "a.png"),
        {f"{name} sam": sam, f"{name} all": both, "differ": sam ^ both},
        np.array([[5, 6, 40, 30]]),
    )
    np.testing.assert_array_equal(np.asarray(Image.open(seen / f"differ-{number:02d}.png")), picture)
    out = capsys.readouterr().out
    assert f"2 objects: mean IoU {(float(first['iou']) + float(second['iou'])) / 2:.4f}" in out
    assert worst["image"] in out


def test_two_bundles_and_a_file_of_prompts(
    tiny_bundle: Bundle, plain_bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"image": "b.png", "box": [[1, 2, 30, 30], [5, 5, 9, 9]]}, {"image": "gone.png", "box": [1, 2, 3, 4]}]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    bundles = [str(tiny_bundle.path), str(plain_bundle.path)]
    command = ["compare", *bundles, str(folder), "--prompts", str(folder / "p.jsonl"), "--output", str(folder / "o")]
    assert main([*command, "--multimask"]) == 1
    assert [(Path(row["image"]).name, row["object"]) for row in rows(folder / "o")] == [("b.png", "0"), ("b.png", "1")]
    err = capsys.readouterr().err
    assert "gone.png: no such image file" in err
    assert "1 of 2 images could not be compared" in err


def test_a_box_that_is_null_is_none(tiny_bundle: Bundle, folder: Path) -> None:
    line = {"image": "a.png", "box": None, "point_coords": [[20, 30]], "point_labels": [1]}
    (folder / "p.jsonl").write_text(json.dumps(line))
    bundle, prompts = str(tiny_bundle.path), str(folder / "p.jsonl")
    command = ["compare", bundle, bundle, str(folder), "--prompts", prompts, "--tokens", "sam,all"]
    assert main([*command, "--output", str(folder / "o")]) == 0
    assert [path.name for path in (folder / "o").glob("*.png")] == ["differ-01.png"]


def test_the_same_twice_is_the_same(tiny_bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = str(tiny_bundle.path)
    command = [
        "compare",
        bundle,
        bundle,
        str(folder / "a.png"),
        *BOX,
        "--fail-below",
        "1",
        "--output",
        str(folder / "o"),
    ]
    assert main(command) == 0
    assert "1 objects: mean IoU 1.0000, lowest 1.0000, 1 the same" in capsys.readouterr().out
    assert not list((folder / "o").glob("*.png"))
    assert main([*command, "--tokens", "sam,hq"]) == 1
    assert "1 of 1 objects are below an IoU of 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a.png"], "no prompt"),
        (["nowhere.png", *BOX], "no such image"),
        (["a.png", "--prompts", "p.jsonl"], "a.png: expected one folder of images"),
        ([".", "--prompts", "p.jsonl"], "p.jsonl: no such file"),
        ([".", *BOX, "--prompts", "p.jsonl"], "--prompts: has the prompts"),
        (["a.png", *BOX, "--worst", "-1"], "--worst: got -1"),
        (["a.png", *BOX, "--output", "b.png"], "b.png: cannot be written"),
    ],
)
def test_one_line_for_what_cannot_be(
    tiny_bundle: Bundle,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(folder)
    bundle = str(tiny_bundle.path)
    assert main(["compare", bundle, bundle, *arguments]) == 1
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


def test_what_a_plain_sam_lacks(plain_bundle: Bundle) -> None:
    with Predictor(plain_bundle) as predictor:
        with pytest.raises(PromptError, match="plain SAM without HQ part"):
            Side("x", predictor, "hq")
        image = np.zeros((20, 20, 3), np.uint8)
        empty = compare_image((Side("a", predictor), Side("b", predictor, "sam")), image, {"box": []})
        assert (empty.objects, empty.masks["a"].shape) == ([], (0, 20, 20))
