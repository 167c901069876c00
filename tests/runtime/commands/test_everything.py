"""`samhq everything`: COCO files of what `MaskGenerator` finds, runs that go on, and one line for every way to fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle, MaskGenerator, Predictor
from samhq_runtime.cli import main
from samhq_runtime.frames.image_files import read_image
from samhq_runtime.masks.rle import decode_rle

KEEP = ("--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--points-per-side", "3")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for index, name in enumerate(("a.png", "b/c.png")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (60, 80 + index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "images"


def run(bundle: Bundle, *arguments: object, output: Path) -> int:
    return main(["everything", str(bundle.path), *map(str, arguments), *KEEP, "--output", str(output)])


def test_files_are_coco_files_of_what_the_generator_finds(tiny_bundle: Bundle, images: Path, capsys: Any) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="the reader of COCO files")
    output, overlay = images.parent / "masks", images.parent / "seen"
    more = ("--box-nms-thresh", "0.95", "--min-mask-region-area", "9", "--sam-tokens-only", "--no-multimask")
    assert run(tiny_bundle, images, *more, "--overlay", overlay, output=output) == 0
    found = 0
    for name in ("a.png", "b/c.png"):
        pixels = read_image(images / name)
        with Predictor(tiny_bundle) as predictor:
            generator = MaskGenerator(
                predictor, 3, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=0.95, min_mask_region_area=9
            )
            expected = generator.generate(pixels, False, sam_tokens_only=True)
        found += len(expected)
        file = coco.COCO(str(output / f"{name}.json"))
        (image,) = file.imgs.values()
        assert (image["file_name"], image["height"], image["width"]) == (name, *pixels.shape[:2])
        assert len(file.anns) == len(expected) > 0
        for annotation, record in zip(file.anns.values(), expected, strict=True):
            np.testing.assert_array_equal(file.annToMask(annotation), record["segmentation"])
            assert {key: annotation[key] for key in record if key != "segmentation"} == {
                key: value for key, value in record.items() if key != "segmentation"
            }
        seen = np.asarray(Image.open(overlay / f"{name}.png"))
        drawn = np.any([record["segmentation"] for record in expected], axis=0)
        np.testing.assert_array_equal((seen != pixels).any(axis=2) | drawn, drawn)
    assert f"{found} masks in 2 images, 0 were done already" in capsys.readouterr().out


def test_a_run_goes_on_and_names_what_failed(tiny_bundle: Bundle, images: Path, capsys: Any) -> None:
    output = images.parent / "masks"
    (images / "b" / "c.png").write_bytes(b"no image")
    assert run(tiny_bundle, images, output=output) == 1
    error = capsys.readouterr().err
    assert "b/c.png: " in error
    assert "error: 1 of 2 images could not be segmented; they are named above" in error
    assert "cannot be read as an image" in json.loads((output / "b" / "c.png.json").read_text())["error"]
    Image.new("RGB", (30, 20)).save(images / "b" / "c.png")
    done = (output / "a.png.json").stat().st_mtime_ns
    assert run(tiny_bundle, images, output=output) == 0
    assert "1 images, 1 were done already" in capsys.readouterr().out
    assert (output / "a.png.json").stat().st_mtime_ns == done
    assert run(tiny_bundle, images, "--points-per-batch", "2", output=output) == 0
    assert run(tiny_bundle, images, "--crop-n-layers", "1", output=output) == 1
    assert "has results of other settings" in capsys.readouterr().err


def test_own_grids_and_lists_of_numbers(tiny_bundle: Bundle, images: Path) -> None:
    grid = images / "grid.npy"
    np.save(grid, [[0.5, 0.25]])
    arguments = ["everything", str(tiny_bundle.path), str(images / "a.png"), *KEEP[:4], "--output", str(images / "out")]
    assert main([*arguments, "--output-mode", "uncompressed_rle", "--point-grids", str(grid)]) == 0
    (mask,) = json.loads((images / "out" / "a.png.json").read_text())["annotations"]
    assert mask["point_coords"] == [[40, 15]]
    assert decode_rle(mask["segmentation"]).sum() == mask["area"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--points-per-side", "0"], "points_per_side: got 0, expected at least 1"),
        (["--pred-iou-thresh", "88"], "pred_iou_thresh: got 88.0, expected a number from 0 to 1"),
        (["--point-grids", "nowhere.npy"], "--point-grids nowhere.npy: cannot be read"),
        (["--hq-token-only", "--sam-tokens-only"], "leaves no mask"),
        (["--providers", "gpu"], "unknown provider gpu"),
        (["--verify-key", "nowhere.pem"], "nowhere.pem"),
    ],
)
def test_one_line_for_every_way_to_fail(
    tiny_bundle: Bundle, images: Path, capsys: Any, arguments: list[str], complaint: str
) -> None:
    output = images.parent / "masks"
    assert main(["everything", str(tiny_bundle.path), str(images), "--output", str(output), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_small_images_and_names_that_collide(tiny_bundle: Bundle, images: Path, capsys: Any) -> None:
    Image.new("RGB", (3, 3)).save(images / "a.png")
    output = images.parent / "masks"
    assert run(tiny_bundle, images / "a.png", "--crop-n-layers", "2", output=output) == 1
    assert "a.png: image of 3 x 3 pixels: too small for 4 x 4 crops" in capsys.readouterr().err
    Image.new("RGB", (3, 3)).save(images / "b" / "a.png")
    assert run(tiny_bundle, images / "a.png", images / "b" / "a.png", output=images / "other") == 1
    assert "results of both would be a.png.json" in capsys.readouterr().err
    assert run(tiny_bundle, images / "nowhere", output=images / "other") == 1
    assert "nowhere: no such image, folder or list of images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("settings", "its results would take the place of settings.json; rename it"), ("report", "")],
)
def test_names_that_are_taken(tiny_bundle: Bundle, images: Path, capsys: Any, name: str, complaint: str) -> None:
    (images / "a.png").rename(images / name)
    output = images.parent / "masks"
    assert run(tiny_bundle, images / name, output=output) == bool(complaint)
    assert complaint in capsys.readouterr().err
    assert (output / f"{name}.json").exists() != bool(complaint)


def test_unknown_forms_of_output_are_refused(tiny_bundle: Bundle, images: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        run(tiny_bundle, images, "--output-mode", "png", output=images / "masks")
    assert "invalid choice: 'png'" in capsys.readouterr().err


def test_formats_are_added_without_segmenting_again(
    tiny_bundle: Bundle, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = images.parent / "masks"
    assert run(tiny_bundle, images, output=output) == 0
    monkeypatch.setattr(MaskGenerator, "generate", lambda *args, **options: pytest.fail("segmented again"))
    assert run(tiny_bundle, images, "--format", "coco,npz", "--overlay", images.parent / "seen", output=output) == 0
    content = json.loads((output / "coco" / "annotations.json").read_text())
    own = [json.loads((output / f"{name}.json").read_text())["annotations"] for name in ("a.png", "b/c.png")]
    expected = [annotation["segmentation"] for annotations in own for annotation in annotations]
    assert [annotation["segmentation"] for annotation in content["annotations"]] == expected
    assert len(np.load(output / "npz" / "b" / "c.png.npz")["masks"]) == len(own[1])
    assert (images.parent / "seen" / "a.png.png").is_file()
