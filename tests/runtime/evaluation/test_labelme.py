"""What labelme saves itself: every shape, and a name and a reason for all that is not read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime.errors import DatasetError
from samhq_runtime.evaluation.measure import Setting
from samhq_runtime.evaluation.open import open_dataset
from tests.support.eval_datasets import MASKS, numbered_image, read_all
from tests.support.json_files import edit_json
from tests.support.serving import png

FIRST, SECOND = (5, 5, 30, 40), (50, 10, 70, 30)  # of MASKS, ends excluded
Shape = dict[str, Any]


def shape(kind: str, points: list[list[float]], **more: Any) -> Shape:
    return {"label": "x", "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def corners(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def painted(mask: Any) -> str:
    return base64.b64encode(png(mask.astype(np.uint8))).decode()


@pytest.fixture
def labelme(tmp_path: Path) -> Path:
    """Two images of two objects, a rectangle and a polygon, as labelme leaves them."""
    for name in ("1", "2"):
        Image.fromarray(numbered_image(MASKS)).save(tmp_path / f"{name}.png")
        shapes = [shape("rectangle", [[30, 40], [5, 5]]), shape("polygon", corners(*SECOND))]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": None}
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "imageHeight": 60, "imageWidth": 80}))
    return tmp_path


def test_a_folder_and_a_file_of_labelme(labelme: Path) -> None:
    assert read_all(labelme) == (["1.png", "2.png"], [], [1.0] * 4)
    assert read_all(labelme / "2.json") == (["2.png"], [], [1.0] * 2)
    assert open_dataset(labelme).layout == "labelme"
    before = open_dataset(labelme).fingerprint()
    edit_json(labelme / "2.json", lambda content: content.update(flags={"checked": True}))
    assert open_dataset(labelme).fingerprint() != before


def test_images_of_labelme_elsewhere(labelme: Path) -> None:
    """Named with a backslash, beside the folder of the files; and found where --images says."""
    (labelme / "img").mkdir()
    (labelme / "ann").mkdir()
    for name in ("1", "2"):
        (labelme / f"{name}.png").rename(labelme / "img" / f"{name}.png")
        (labelme / f"{name}.json").rename(labelme / "ann" / f"{name}.json")
    with pytest.raises(DatasetError, match="give --images FOLDER"):
        open_dataset(labelme / "ann")
    assert read_all(labelme / "ann", images=labelme / "img")[2] == [1.0] * 4
    for name in ("1", "2"):
        edit_json(labelme / "ann" / f"{name}.json", lambda c, n=name: c.update(imagePath=f"..\\img\\{n}.png"))
    assert read_all(labelme / "ann")[2] == [1.0] * 4


def test_masks_beside_files_of_labelme(labelme: Path) -> None:
    """Where they are asked for, they are the truth."""
    (labelme / "1_mask.png").write_bytes(png(MASKS[0].astype(np.uint8) * 255))
    assert open_dataset(labelme, mask_suffix="_mask.png").layout == "pairs of the same name"


SHAPES: dict[str, Shape] = {
    "mask": shape("mask", [[5, 5], [29, 39]], mask=painted(np.ones((35, 25)))),
    "turned rectangle": shape("oriented_rectangle", corners(*FIRST)),
    "a file of old": {"label": "x", "points": corners(*FIRST)},
}
NO_SHAPES: dict[str, tuple[object, str]] = {
    "a point": (shape("point", [[5, 5]]), "shape without area"),
    "a line": (shape("linestrip", [[5, 5], [9, 9], [5, 9]]), "shape without area"),
    "a rectangle of four": (shape("rectangle", corners(*FIRST)), "shape without area"),
    "text": ("x", "shape without area"),
    "two corners": (shape("polygon", [[5, 5], [9, 9]]), "segmentation not usable"),
    "a number": (shape("polygon", [[5, 5], [9, "9"], [5, 9]]), "segmentation not usable"),
    "beyond floats": (shape("polygon", [[5, 5], [9, 10**400], [5, 9]]), "segmentation not usable"),
    "NaN": (shape("circle", [[5, 5], [9, float("nan")]]), "segmentation not usable"),
    "no points": (shape("polygon", None), "segmentation not usable"),  # type: ignore[arg-type]
    "a mask of another size": (
        shape("mask", [[5, 5], [9, 9]], mask=painted(np.ones((35, 25)))),
        "mask of another size",
    ),
    "a mask beyond the image": (shape("mask", [[5, 5], [90, 9]], mask=painted(np.ones((5, 86)))), "shape without area"),
    "a huge mask": (shape("mask", [[5, 5], [9, 9]], mask=painted(np.ones((500, 500)))), "mask of another size"),
    "no mask": (shape("mask", [[5, 5], [9, 9]]), "shape without area"),
    "no PNG": (shape("mask", [[5, 5], [9, 9]], mask="AAAA"), "mask unreadable"),
    "no base64": (shape("mask", [[5, 5], [9, 9]], mask="é"), "mask unreadable"),
    "an empty mask": (shape("mask", [[5, 5], [9, 9]], mask=painted(np.zeros((5, 5)))), "empty mask"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_of_labelme(labelme: Path, case: str) -> None:
    edit_json(labelme / "1.json", lambda content: content["shapes"].__setitem__(0, SHAPES[case]))
    assert read_all(labelme)[1:] == ([], [1.0] * 4)


@pytest.mark.parametrize("case", NO_SHAPES)
def test_shapes_that_are_left_out(labelme: Path, case: str) -> None:
    given, reason = NO_SHAPES[case]
    edit_json(labelme / "1.json", lambda content: content["shapes"].__setitem__(0, given))
    assert read_all(labelme)[1:] == ([("1.png", "0", reason)], [1.0] * 3)


def test_a_circle(labelme: Path) -> None:
    edit_json(
        labelme / "1.json", lambda content: content["shapes"].__setitem__(0, shape("circle", [[40, 30], [60, 30]]))
    )
    mask = open_dataset(labelme).read("1.png").read_mask("0")
    assert abs(mask.sum() / (np.pi * 20**2) - 1) < 0.01
    assert mask[30, 21:59].all()


def test_shapes_of_one_group_are_one_object(labelme: Path) -> None:
    parts = [shape("rectangle", [[5, 5], [30, y]], group_id=3) for y in (20, 40)]
    other = [shape("rectangle", [[50, 10], [70, 30]], group_id=3, label=["y"])]
    edit_json(labelme / "1.json", lambda content: content.update(shapes=[parts[0], *other, parts[1]]))
    assert list(open_dataset(labelme).read("1.png").targets) == ["0", "1"]
    assert read_all(labelme)[1:] == ([], [1.0] * 4)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda path: path.write_text("{"), "annotation file unreadable"),
    "of another tool": (lambda path: path.write_text("{}"), "annotation file unreadable"),
    "without a list": (lambda path: edit_json(path, lambda c: c.update(shapes={})), "annotation file unreadable"),
    "without a name": (lambda path: edit_json(path, lambda c: c.update(imagePath=3)), "annotation file unreadable"),
    "for the other image": (
        lambda path: edit_json(path, lambda c: c.update(imagePath="1.png")),
        "image annotated twice",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files_of_labelme_that_are_left_out(labelme: Path, case: str) -> None:
    change, reason = FILES[case]
    change(labelme / "2.json")
    assert read_all(labelme) == (["1.png"], [("2.json", None, reason)], [1.0] * 2)


def test_what_is_refused(labelme: Path) -> None:
    with pytest.raises(DatasetError, match=r"--include-crowd goes with COCO annotations; .* has no crowd regions"):
        open_dataset(labelme / "1.json", include_crowd=True)
    assert {reason for _, _, reason in read_all(labelme, Setting(prompts="bbox"))[1]} == {"no box for the object"}
    (labelme / "1.json").write_text('{"imagePath": 3, "shapes": []}')
    with pytest.raises(DatasetError, match=r"no usable file of labelme in it; .*expected a list of shapes, and text"):
        open_dataset(labelme / "1.json")
