"""COCO's annotation files: what is read, and a name and a reason for all that is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from samhq_runtime.errors import DatasetError
from samhq_runtime.evaluation.measure import Setting
from samhq_runtime.evaluation.open import open_dataset
from tests.support.eval_datasets import cut_short, read_all
from tests.support.json_files import Change, edit_json


def annotation(**changes: Any) -> Change:
    """A change of the first annotation."""
    return lambda content: content["annotations"][0].update(changes)


@pytest.mark.parametrize("place", [".", "images", "val", "../val", "../images/val"])
def test_coco_and_its_usual_folders(coco: Path, place: str) -> None:
    (coco.parent / "annotations").mkdir()
    path = coco.rename(coco.parent / "annotations" / "instances_val.json")
    folder = path.parent / place
    folder.mkdir(parents=True, exist_ok=True)
    for image in coco.parent.glob("*.png"):
        image.rename(folder / image.name)
    assert read_all(path) == (["1.png", "2.png"], [], [1.0] * 4)
    elsewhere = shutil.move(folder, coco.parent / "elsewhere") if place != "." else folder
    assert read_all(path, images=elsewhere)[2] == [1.0] * 4


BAD_ANNOTATIONS: dict[str, tuple[Change, tuple[str, str | None, str]]] = {
    "dangling image id": (annotation(image_id=99), ("image id 99", "1", "annotation of an unknown image")),
    "crowd": (annotation(iscrowd=1), ("1.png", "1", "crowd region")),
    "no segmentation": (
        lambda content: content["annotations"][0].pop("segmentation"),
        ("1.png", "1", "segmentation not usable"),
    ),
    "no polygons": (annotation(segmentation=[]), ("1.png", "1", "segmentation not usable")),
    "a polygon of two points": (annotation(segmentation=[[1, 1, 5, 5]]), ("1.png", "1", "segmentation not usable")),
    "odd polygon": (annotation(segmentation=[[1, 1, 5, 5, 9, 1, 3]]), ("1.png", "1", "segmentation not usable")),
    "text in a polygon": (annotation(segmentation=[[1, 1, 5, 5, "9", 1]]), ("1.png", "1", "segmentation not usable")),
    "NaN polygon": (
        annotation(segmentation=[[1, 1, 5, 5, float("nan"), 1]]),
        ("1.png", "1", "segmentation not usable"),
    ),
    "far polygon": (annotation(segmentation=[[1, 1, 5, 5, 1e9, 1]]), ("1.png", "1", "segmentation not usable")),
    "polygon of an integer beyond floats": (
        annotation(segmentation=[[1, 1, 5, 5, 10**400, 1]]),
        ("1.png", "1", "segmentation not usable"),
    ),
    "polygon without area": (annotation(segmentation=[[5, 5, 5, 5, 5, 5]]), ("1.png", "1", "empty mask")),
    "empty runs": (annotation(segmentation={"size": [60, 80], "counts": [4800]}), ("1.png", "1", "empty mask")),
    "runs too short": (
        annotation(segmentation={"size": [60, 80], "counts": [1, 5]}),
        ("1.png", "1", "segmentation not usable"),
    ),
    "cut runs": (
        annotation(segmentation={"size": [60, 80], "counts": "zzz"}),
        ("1.png", "1", "segmentation not usable"),
    ),
    "no text of runs": (
        annotation(segmentation={"size": [60, 80], "counts": "é"}),
        ("1.png", "1", "segmentation not usable"),
    ),
    "negative runs": (
        annotation(segmentation={"size": [60, 80], "counts": [-1, 4801]}),
        ("1.png", "1", "segmentation not usable"),
    ),
    "runs of another size": (
        annotation(segmentation={"size": [80, 60], "counts": [4800]}),
        ("1.png", "1", "mask of another size"),
    ),
}


@pytest.mark.parametrize("case", BAD_ANNOTATIONS)
def test_annotation_that_is_left_out(coco: Path, case: str) -> None:
    change, expected = BAD_ANNOTATIONS[case]
    edit_json(coco, change)
    assert read_all(coco) == (["1.png", "2.png"], [expected], [1.0] * 3)


def _resize(path: Path) -> None:
    Image.new("RGB", (80, 61)).save(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Path.unlink, "image missing"),
        (cut_short, "image unreadable"),
        (lambda path: path.write_text("no image"), "image unreadable"),
        (_resize, "image of another size than annotated"),
    ],
)
def test_image_that_is_left_out(coco: Path, change: Callable[[Path], Any], reason: str) -> None:
    change(coco.with_name("2.png"))
    assert read_all(coco) == (["1.png", "2.png"], [("2.png", None, reason)], [1.0] * 2)


def test_image_without_annotations_is_named(coco: Path) -> None:
    edit_json(coco, lambda content: content["images"].append({"id": "x", "file_name": "3.png"}))
    assert read_all(coco)[1] == [("3.png", None, "no annotation for the image")]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda path: path.write_text("{"), "not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda path: path.write_text("[]"), "no list 'images'"),
        (lambda path: path.write_text('{"images": [], "annotations": []}'), "0 images and 0 annotations"),
        (lambda path: edit_json(path, lambda c: c["images"][1].pop("file_name")), "images[1] has no file_name"),
        (
            lambda path: edit_json(path, lambda c: c["annotations"].append(3)),
            "annotations[4] has no id and no image_id",
        ),
        (lambda path: edit_json(path, lambda c: c["images"][1].update(id=1)), "image id 1 occurs twice"),
        (lambda path: edit_json(path, lambda c: c["annotations"][1].update(id=1)), "annotation id 1 occurs twice"),
        (
            lambda path: edit_json(path, lambda c: c["images"][1].update(file_name="1.png")),
            "file_name 1.png occurs twice",
        ),
        (lambda path: path.with_name("1.png").unlink(), "first image 1.png is in none of"),
        (Path.unlink, "no such dataset"),
    ],
)
def test_annotation_file_that_is_refused(coco: Path, change: Callable[[Path], Any], complaint: str) -> None:
    change(coco)
    with pytest.raises(DatasetError) as error:
        open_dataset(coco)
    assert complaint in str(error.value)


def tight(content: dict[str, Any]) -> None:
    """Give every annotation the box that pycocotools computes of its mask."""
    for entry in content["annotations"]:
        entry["bbox"] = [float(value) for value in coco_mask.toBbox(entry["segmentation"])]


BAD_BOXES: dict[str, object] = {
    "none": None,
    "three numbers": [5, 5, 25],
    "text": [5, 5, "25", 35],
    "no width": [5, 5, 0, 35],
    "NaN": [5, 5, float("nan"), 35],
    "left of the image": [-5, 5, 25, 35],
    "larger than the image": [5, 5, 76.5, 35],
    "beyond floats": [5, 5, 10**400, 35],
}


def test_boxes_of_annotations_as_prompts(coco: Path) -> None:
    """COCO's box of a mask, from edge to edge, is the prompt that is made from the mask itself."""
    edit_json(coco, tight)
    assert read_all(coco, Setting(prompts="bbox")) == (["1.png", "2.png"], [], [1.0] * 4)


@pytest.mark.parametrize("case", BAD_BOXES)
def test_unusable_box_of_an_annotation(coco: Path, case: str) -> None:
    """Only where it is the prompt."""
    edit_json(coco, tight)
    edit_json(coco, annotation(bbox=BAD_BOXES[case]))
    skipped = ("1.png", "1", "box not usable")
    assert read_all(coco, Setting(prompts="bbox")) == (["1.png", "2.png"], [skipped], [1.0] * 3)
    assert read_all(coco) == (["1.png", "2.png"], [], [1.0] * 4)


def test_file_name_that_is_no_text(coco: Path) -> None:
    edit_json(coco, lambda content: content["images"][1].update(file_name=5))
    with pytest.raises(DatasetError, match=r"images\[1\]\.file_name is 5, expected a string"):
        open_dataset(coco)
