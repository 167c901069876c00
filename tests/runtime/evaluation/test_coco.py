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


def _renamed(stated: str, on_disk: str) -> Callable[[Path], object]:
    """The second image has one name in the file and another on the disk."""

    def change(path: Path) -> None:
        target = path.parent / on_disk
        target.parent.mkdir(parents=True, exist_ok=True)
        path.with_name("2.png").rename(target)
        edit_json(path, lambda content: content["images"][1].update(file_name=stated))

    return change


def _as_lvis(path: Path) -> None:
    def urls(content: dict[str, Any]) -> None:
        for entry in content["images"]:
            entry["coco_url"] = f"http://images.cocodataset.org/val2017/{entry.pop('file_name')}"

    edit_json(path, urls)


NAMES: dict[str, Callable[[Path], object]] = {
    "backslashes": _renamed(r"images\2.png", "images/2.png"),
    "a drive": _renamed(r"C:\data\export\x.png", "x.png"),
    "Label Studio's upload": _renamed("/data/upload/1/8eb4-x.png", "8eb4-x.png"),
    "labelme2coco's folder": _renamed("JPEGImages/x.png", "x.png"),
    "composed, decomposed on the disk": _renamed("caf\u00e9.png", "cafe\u0301.png"),
    "decomposed, composed on the disk": _renamed("cafe\u0301.png", "caf\u00e9.png"),
    "a line separator": _renamed("a\u2028b.png", "a\u2028b.png"),
    "LVIS": _as_lvis,
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_other_systems(coco: Path, case: str) -> None:
    NAMES[case](coco)
    names, skips, ious = read_all(coco)
    assert (len(names), skips, ious) == (2, [], [1.0] * 4)


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "\ud800", "../" * 900])
def test_names_that_no_file_has(coco: Path, name: str) -> None:
    edit_json(coco, lambda content: content["images"][1].update(file_name=name))
    dataset = open_dataset(coco)
    assert dataset.fingerprint()
    assert read_all(coco)[1:] == ([(name, None, "image missing")], [1.0] * 2)


def test_last_parts_that_two_images_have(coco: Path) -> None:
    """Which of the two the file is of is not guessed."""
    (coco.parent / "1.png").rename(coco.parent / "x.png")
    names = iter(("a/x.png", "b/x.png"))
    edit_json(coco, lambda content: [entry.update(file_name=next(names)) for entry in content["images"]])
    with pytest.raises(DatasetError, match="none of its 2 images"):
        open_dataset(coco)


@pytest.mark.parametrize("stated", [None, 0, -1, "80", "", float("nan"), [], 1e400, True])
def test_sizes_that_are_unknown(coco: Path, stated: object) -> None:
    edit_json(coco, lambda content: content["images"][0].update(width=stated, height=stated))
    assert read_all(coco) == (["1.png", "2.png"], [], [1.0] * 4)


@pytest.mark.parametrize("value", [0, "0", False, "false", None, 0.0, ""])
def test_what_is_no_crowd(coco: Path, value: object) -> None:
    edit_json(coco, annotation(iscrowd=value))
    assert read_all(coco)[1] == []


@pytest.mark.parametrize("value", [1, "1", True])
def test_crowds_on_request(coco: Path, value: object) -> None:
    """CVAT writes painted masks so."""
    edit_json(coco, annotation(iscrowd=value))
    assert read_all(coco)[1] == [("1.png", "1", "crowd region")]
    assert read_all(coco, include_crowd=True) == (["1.png", "2.png"], [], [1.0] * 4)
    assert open_dataset(coco).fingerprint() != open_dataset(coco, include_crowd=True).fingerprint()


def test_the_first_image_missing(coco: Path) -> None:
    coco.with_name("1.png").unlink()
    assert read_all(coco) == (["1.png", "2.png"], [("1.png", None, "image missing")], [1.0] * 2)


def test_repeated_ids_get_new_ones(coco: Path) -> None:
    edit_json(coco, lambda content: [entry.update(id=7) for entry in content["annotations"][1:]])
    dataset = open_dataset(coco)
    assert [list(targets) for targets in (dataset.read("1.png").targets, dataset.read("2.png").targets)] == [
        ["1", "7"],
        ["8", "9"],
    ]
    assert dataset.notices == ["2 annotations have the id of another, such as 7; they count as 8 to 9 here"]
    assert read_all(coco) == (["1.png", "2.png"], [], [1.0] * 4)


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
        (
            lambda path: edit_json(path, lambda c: c["images"][1].update(file_name="1.png")),
            "file_name 1.png occurs twice",
        ),
        (
            lambda path: [path.with_name(name).unlink() for name in ("1.png", "2.png")],
            "none of its 2 images, such as 1.png, is in any of",
        ),
        (lambda path: path.write_text("<!DOCTYPE html>"), "not JSON (a web page"),
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
