"""Datasets for `samhq eval`: what is read, and a name and a reason for all that is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from samhq_runtime.errors import DatasetError
from samhq_runtime.evaluation.dataset import Unusable
from samhq_runtime.evaluation.measure import Setting, measure_image
from samhq_runtime.evaluation.open import open_dataset
from samhq_runtime.evaluation.segmentation import decode_segmentation
from tests.support.eval_datasets import FakePredictor, numbered_image, rectangles, runs_of, write_coco

MASKS = rectangles((5, 5, 30, 40), (50, 10, 70, 30))
SCENE = (numbered_image(MASKS), MASKS)
MADE_FROM_MASKS = Setting()
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "data", [SCENE, SCENE])


def edit(path: Path, change: Change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def annotation(**changes: Any) -> Change:
    """A change of the first annotation."""
    return lambda content: content["annotations"][0].update(changes)


def read_all(
    path: Path, setting: Setting = MADE_FROM_MASKS, **options: Any
) -> tuple[list[str], list[tuple[str, str | None, str]], list[float]]:
    """Image names, what was left out, and the IoU of every object by a predictor that knows the truth."""
    dataset = open_dataset(path, **options)
    records = [measure_image(FakePredictor(), dataset, name, setting) for name in dataset.names]  # type: ignore[arg-type]
    skips = [*dataset.left_out, *(skip for record in records for skip in record.skipped)]
    ious = [score.iou for record in records for score in record.objects]
    return list(dataset.names), [(skip.image, skip.target, skip.reason) for skip in skips], ious


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
    edit(coco, change)
    assert read_all(coco) == (["1.png", "2.png"], [expected], [1.0] * 3)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _resize(path: Path) -> None:
    Image.new("RGB", (80, 61)).save(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Path.unlink, "image missing"),
        (_cut, "image unreadable"),
        (lambda path: path.write_text("no image"), "image unreadable"),
        (_resize, "image of another size than annotated"),
    ],
)
def test_image_that_is_left_out(coco: Path, change: Callable[[Path], Any], reason: str) -> None:
    change(coco.with_name("2.png"))
    assert read_all(coco) == (["1.png", "2.png"], [("2.png", None, reason)], [1.0] * 2)


def test_image_without_annotations_is_named(coco: Path) -> None:
    edit(coco, lambda content: content["images"].append({"id": "x", "file_name": "3.png"}))
    assert read_all(coco)[1] == [("3.png", None, "no annotation for the image")]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda path: path.write_text("{"), "not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda path: path.write_text("[]"), "no list 'images'"),
        (lambda path: path.write_text('{"images": [], "annotations": []}'), "0 images and 0 annotations"),
        (lambda path: edit(path, lambda c: c["images"][1].pop("file_name")), "images[1] has no file_name"),
        (lambda path: edit(path, lambda c: c["annotations"].append(3)), "annotations[4] has no id and no image_id"),
        (lambda path: edit(path, lambda c: c["images"][1].update(id=1)), "image id 1 occurs twice"),
        (lambda path: edit(path, lambda c: c["annotations"][1].update(id=1)), "annotation id 1 occurs twice"),
        (lambda path: edit(path, lambda c: c["images"][1].update(file_name="1.png")), "file_name 1.png occurs twice"),
        (lambda path: path.with_name("1.png").unlink(), "first image 1.png is in none of"),
        (Path.unlink, "no such dataset"),
    ],
)
def test_annotation_file_that_is_refused(coco: Path, change: Callable[[Path], Any], complaint: str) -> None:
    change(coco)
    with pytest.raises(DatasetError) as error:
        open_dataset(coco)
    assert complaint in str(error.value)


@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_are_pycocotools_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hw = (int(rng.integers(1, 90)), int(rng.integers(1, 90)))
    mask = rng.random(hw) < rng.choice([0.0, 0.01, 0.5, 1.0])
    runs = runs_of(mask)
    np.testing.assert_array_equal(decode_segmentation(runs, hw), mask)
    with pytest.raises(Unusable):
        decode_segmentation({**runs, "counts": runs["counts"] + "1"}, hw)


def test_several_polygons_are_one_mask() -> None:
    polygons = [[5, 5, 30, 5, 30, 40, 5, 40], [50, 10, 70, 10, 70, 30]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 60, 80)))
    np.testing.assert_array_equal(decode_segmentation(polygons, (60, 80)), expected)
    np.testing.assert_array_equal(decode_segmentation(polygons[:1], (60, 80)), MASKS[0])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """DIS's layout, of two images."""
    for folder in ("im", "gt"):
        (tmp_path / "DIS" / folder).mkdir(parents=True)
    for name, mask in zip(("a", "b"), MASKS, strict=True):
        Image.fromarray(numbered_image(mask[None])).save(tmp_path / "DIS" / "im" / f"{name}.png")
        Image.fromarray(mask * np.uint8(255)).save(tmp_path / "DIS" / "gt" / f"{name}.png")
    return tmp_path / "DIS"


def test_layouts_of_pairs(pairs: Path) -> None:
    assert read_all(pairs) == (["a.png", "b.png"], [], [1.0] * 2)
    assert read_all(pairs / "im", masks=pairs / "gt")[2] == [1.0] * 2
    shutil.copytree(pairs / "im", pairs.parent / "two" / "images")
    shutil.copytree(pairs / "gt", pairs.parent / "two" / "masks")
    assert read_all(pairs.parent / "two")[2] == [1.0] * 2


def test_pairs_in_one_folder(pairs: Path) -> None:
    for name in ("a", "b"):
        image = Image.open(pairs / "im" / f"{name}.png")
        image.save(pairs / f"{name}.jpg", quality=100, subsampling=0)
        (pairs / "gt" / f"{name}.png").rename(pairs / f"{name}.png")
    shutil.rmtree(pairs / "gt")
    dataset = open_dataset(pairs)
    assert dataset.names == ["a.jpg", "b.jpg"]
    np.testing.assert_array_equal(dataset.read("b.jpg").read_mask("b.png"), MASKS[1])


def _palette(path: Path, colours: int) -> None:
    picture = Image.fromarray((MASKS[1] + MASKS[0] * (2 * (colours - 2))).astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 255, 255, 255, 200, 0, 0])
    picture.save(path)


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (lambda path: Image.fromarray(MASKS[1] * np.uint8(255)).convert("RGBA").save(path), None),
        (lambda path: Image.fromarray(MASKS[1]).save(path), None),
        (lambda path: Image.fromarray(MASKS[1].astype(np.uint8)).save(path), None),
        (lambda path: Image.fromarray(MASKS[1] * np.uint16(65535)).save(path), None),
        (lambda path: Image.fromarray((MASKS[1] * 28 + 100).astype(np.uint8)).save(path), None),
        (lambda path: _palette(path, 2), None),
        (lambda path: _palette(path, 3), "mask is a label map"),
        (lambda path: Image.new("L", (80, 60)).save(path), "empty mask"),
        (lambda path: Image.new("L", (60, 80), 255).save(path), "mask of another size"),
        (_cut, "mask unreadable"),
        (lambda path: path.write_text("no image"), "mask unreadable"),
    ],
)
def test_kinds_of_mask_files(pairs: Path, save: Callable[[Path], None], reason: str | None) -> None:
    save(pairs / "gt" / "b.png")
    _, skips, ious = read_all(pairs)
    if reason is None:
        assert (skips, ious) == ([], [1.0] * 2)
    else:
        assert (skips, ious) == ([("b.png", "b.png", reason)], [1.0])


def test_lonely_files_are_named(pairs: Path) -> None:
    (pairs / "gt" / "b.png").rename(pairs / "gt" / "c.png")
    skips = [("c.png", "c.png", "no image for the mask"), ("b.png", None, "no mask for the image")]
    assert read_all(pairs) == (["a.png", "b.png"], skips, [1.0])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"path": "DIS/gt/none"}, "no such dataset"),
        ({"path": "DIS/empty"}, "no images in it"),
        ({"path": "DIS/im", "masks": "DIS/none"}, "no such folder of masks"),
        ({"path": "DIS/im", "masks": "DIS/empty"}, "no masks in it"),
        ({"path": "DIS/im", "images": "DIS/im"}, "--images goes with an annotation file"),
        ({"path": "DIS/im/a.png", "masks": "DIS/gt"}, "--masks goes with a folder"),
        ({"path": "DIS/im", "masks": "DIS/other"}, "has the name of a mask"),
    ],
)
def test_folder_that_is_refused(pairs: Path, arguments: dict[str, str], complaint: str) -> None:
    for folder in ("empty", "other"):
        (pairs / folder).mkdir()
    (pairs / "gt" / "a.png").rename(pairs / "other" / "z.png")
    with pytest.raises(DatasetError) as error:
        open_dataset(**{name: pairs.parent / value for name, value in arguments.items()})
    assert complaint in str(error.value)


def test_two_images_of_one_name_are_refused(pairs: Path) -> None:
    Image.open(pairs / "im" / "a.png").save(pairs / "im" / "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.jpg and a\.png have the same name"):
        open_dataset(pairs)


def test_fingerprint_follows_the_files(coco: Path, pairs: Path) -> None:
    for path, changed in ((coco, coco.with_name("2.png")), (coco, coco), (pairs, pairs / "gt" / "a.png")):
        before = open_dataset(path).fingerprint()
        assert open_dataset(path).fingerprint() == before
        changed.write_bytes(changed.read_bytes() + b" ")
        assert open_dataset(path).fingerprint() != before


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
    edit(coco, tight)
    assert read_all(coco, Setting(prompts="bbox")) == (["1.png", "2.png"], [], [1.0] * 4)


@pytest.mark.parametrize("case", BAD_BOXES)
def test_unusable_box_of_an_annotation(coco: Path, case: str) -> None:
    """Only where it is the prompt."""
    edit(coco, tight)
    edit(coco, annotation(bbox=BAD_BOXES[case]))
    skipped = ("1.png", "1", "box not usable")
    assert read_all(coco, Setting(prompts="bbox")) == (["1.png", "2.png"], [skipped], [1.0] * 3)
    assert read_all(coco) == (["1.png", "2.png"], [], [1.0] * 4)


def test_folders_have_no_boxes(tmp_path: Path) -> None:
    Image.fromarray(SCENE[0]).save(tmp_path / "a.jpg")
    Image.fromarray(MASKS[0]).save(tmp_path / "a.png")
    assert read_all(tmp_path, Setting(prompts="bbox"))[1] == [("a.jpg", "a.png", "no box for the object")]


@pytest.mark.parametrize("layout", ["together", "apart"])
def test_files_of_an_unsupported_type_are_named(tmp_path: Path, layout: str) -> None:
    images, masks = (tmp_path / "im", tmp_path / "gt") if layout == "apart" else (tmp_path, tmp_path)
    for folder in (images, masks):
        folder.mkdir(exist_ok=True)
    Image.fromarray(SCENE[0]).save(images / "a.jpg")
    Image.fromarray(MASKS[0]).save(masks / "a.png")
    (images / "b.heic").touch()
    (masks / "c.mat").touch()
    (masks / ".hidden").touch()
    dataset = open_dataset(tmp_path)
    assert list(dataset.names) == ["a.jpg"]
    assert [(skip.image, skip.reason) for skip in dataset.left_out] == [
        (name, "file of an unsupported type") for name in ("b.heic", "c.mat")
    ]


def test_file_name_that_is_no_text(coco: Path) -> None:
    edit(coco, lambda content: content["images"][1].update(file_name=5))
    with pytest.raises(DatasetError, match=r"images\[1\]\.file_name is 5, expected a string"):
        open_dataset(coco)
