"""Files of prompts: every form, what results keep of it, and one line for all that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.errors import SamHqError
from samhq_runtime.fleet.prompt_files import read_prompts
from samhq_runtime.fleet.prompt_set import PromptOptions, PromptSet

BOXES = [[1, 2, 30, 40], [5, 6, 7, 8]]
COCO: dict[str, Any] = {
    "images": [
        {"id": 42, "file_name": "a\\cat.jpg", "width": 60, "height": 40},
        {"id": 7, "file_name": "b.jpg"},
        {"id": 9, "file_name": "none.jpg"},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 5, "image_id": 7, "category_id": 18, "bbox": [10, 20, 30.5, 40]},
        {"id": 6, "image_id": 42, "category_id": 2, "bbox": [0, 0, 1, 1]},
        {"id": 8, "image_id": 7, "category_id": 2, "bbox": [1, 1, 5, 5], "iscrowd": 1},
        {"id": 11, "image_id": 7, "category_id": 2, "bbox": [1, 1, 0, 5]},
        {"id": 12, "image_id": 3, "category_id": 2, "bbox": [1, 1, 5, 5]},
    ],
}
DETECTIONS = [
    {"image_id": 42, "category_id": 18, "bbox": [10, 20, 30, 40], "score": 0.9},
    {"image_id": 42, "category_id": 18, "bbox": [10, 20, 30, 40], "score": 0.2},
]


def read(path: Path, content: Any, **options: Any) -> PromptSet:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_prompts(path, PromptOptions(**options))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param([{"image": "./a.jpg", "box": BOXES}], {"a.jpg": {"box": BOXES}}, id="a list of lines"),
        pytest.param({"image": "a.jpg", "box": BOXES}, {"a.jpg": {"box": BOXES}}, id="a single line"),
        pytest.param(
            json.dumps({"image": "a.jpg", "box": BOXES}, indent=2), {"a.jpg": {"box": BOXES}}, id="one image, indented"
        ),
        pytest.param(
            '{"image": "a.jpg", "box": []}\n{"image": "b.jpg", "box": []}',
            {"a.jpg": {"box": []}, "b.jpg": {"box": []}},
            id="lines in a file called .json",
        ),
        pytest.param({"a.jpg": BOXES, "b.jpg": []}, {"a.jpg": {"box": BOXES}, "b.jpg": {"box": []}}, id="boxes"),
        pytest.param(
            {"a.jpg": [[1, 2], [3, 4]]},
            {"a.jpg": {"point_coords": [[[1, 2]], [[3, 4]]], "point_labels": [[1], [1]]}},
            id="points, an object each",
        ),
        pytest.param({"a.jpg": {"box": BOXES}}, {"a.jpg": {"box": BOXES}}, id="prompts by name"),
        pytest.param(BOXES, {"x.png": {"box": BOXES}, "y.png": {"box": BOXES}}, id="boxes of every image"),
    ],
)
def test_forms_of_json(tmp_path: Path, content: Any, expected: dict[str, Any]) -> None:
    asked = read(tmp_path / "prompts.json", content, images=lambda: ["x.png", "y.png"])
    assert {job.image: dict(job.prompts) for job in asked.jobs} == expected
    assert asked.catalogue.categories == {"object": 1}


def test_categories_by_name(tmp_path: Path) -> None:
    lines = [{"image": "a.jpg", "box": BOXES, "category": ["dog", "cat"]}, {"image": "b.jpg", "box": BOXES[0]}]
    asked = read(tmp_path / "p.jsonl", "\n".join(map(json.dumps, lines)))
    assert asked.catalogue.categories == {"object": 1, "cat": 2, "dog": 3}
    assert asked.jobs[0].objects == [{"category": "dog"}, {"category": "cat"}]


def test_coco_annotations(tmp_path: Path) -> None:
    """Boxes from edge to edge become outermost pixels, ids stay, what is no prompt is told, an image may have none."""
    asked = read(tmp_path / "instances.json", COCO)
    cat, other, none = asked.jobs
    assert (cat.image, cat.prompts) == ("a/cat.jpg", {"box": [[0, 0, 0, 0]]})
    assert (other.image, other.prompts) == ("b.jpg", {"box": [[10, 20, 39.5, 59]]})
    assert other.objects == [{"category": "dog", "annotation_id": 5}]
    assert (none.image, none.count) == ("none.jpg", 0)
    assert asked.catalogue.categories == {"cat": 2, "dog": 18}
    assert asked.catalogue.image_ids == {"a/cat.jpg": 42, "b.jpg": 7, "none.jpg": 9}
    assert asked.left_out == {
        "annotations: a crowd region": ["annotation 8: it outlines a group, not an object"],
        "annotations: an unusable box": ["annotation 11: got [1, 1, 0, 5], without area"],
        "annotations: an unknown image": ["annotation 12: image id 3"],
    }


def test_ids_that_results_cannot_keep(tmp_path: Path) -> None:
    """Those of detections mean nothing; beside an id that is text, numbers from 1 could be another annotation's."""
    asked = read(tmp_path / "d.json", [{**entry, "id": 3} for entry in DETECTIONS], images=lambda: ["42.jpg"])
    assert asked.jobs[0].objects == [{"category": "18", "score": score} for score in (0.9, 0.2)]
    annotations = [{**COCO["annotations"][0], "id": key} for key in ("a", 1)]
    asked = read(tmp_path / "instances.json", {**COCO, "annotations": annotations})
    assert asked.jobs[1].objects == [{"category": "dog"}] * 2


def test_coco_without_categories(tmp_path: Path) -> None:
    without = {key: value for key, value in COCO.items() if key != "categories"}
    asked = read(tmp_path / "instances.json", without)
    assert asked.catalogue.categories == {"2": 2, "18": 18}
    assert asked.jobs[1].objects[0]["category"] == "18"


@pytest.mark.parametrize("names", [["000000000042.jpg", "1.jpg"], ["42.png"]])
def test_detections_by_the_names_of_images(tmp_path: Path, names: list[str]) -> None:
    asked = read(tmp_path / "d.json", DETECTIONS, images=lambda: names, min_score=0.5)
    (job,) = asked.jobs
    assert (job.image, job.prompts) == (names[0], {"box": [[10, 20, 39, 59]]})
    assert job.objects == [{"category": "18", "score": 0.9}]
    assert asked.left_out == {"detections: below --min-score": ["detection 1: score 0.2"]}
    assert asked.catalogue.image_ids == {names[0]: 42}


def test_detections_by_the_ids_of_a_coco_file(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(json.dumps(COCO))
    asked = read(tmp_path / "d.json", DETECTIONS, image_ids=tmp_path / "instances.json")
    assert [(job.image, job.count) for job in asked.jobs] == [("a/cat.jpg", 2), ("b.jpg", 0), ("none.jpg", 0)]
    assert asked.jobs[0].objects[1] == {"category": "dog", "score": 0.2}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "p.json:1: not JSON"),
        ([], "p.json: expected a list of objects with `image`, an object of images"),
        ("3", "p.json: expected a list of objects"),
        ("null", "p.json: expected a list of objects"),
        ('{"image": "a.jpg",\n "boxes": []}', r"p.json: got prompts \['boxes'\]"),
        ('{"a.jpg": [], "a.jpg": []}', "p.json: 'a.jpg' occurs twice"),
        ([{"image": "a.jpg", "box": []}, {"image": "a.jpg", "box": []}], r"p.json: \[1\]: a.jpg occurs twice"),
        ({"../a.jpg": []}, "p.json: ../a.jpg: image '../a.jpg' lies outside"),
        ({"report": []}, "its results would take the place of report.json"),
        ([{"image": "a.jpg", "box": BOXES, "category": ["x"]}], "got 1 names for 2 objects"),
        ([{"image": "a.jpg", "box": BOXES, "category": [1, 2]}], "category: expected a name"),
        ({**COCO, "images": []}, "p.json: no images in it"),
        ({**COCO, "images": [{"id": 1}]}, r"images\[0\] has no file_name"),
        ({**COCO, "images": COCO["images"][:1] * 2}, "image id 42 occurs twice"),
        ({**COCO, "images": [*COCO["images"], {"id": 1, "file_name": "b.jpg"}]}, "b.jpg occurs twice"),
        ({**COCO, "images": [{"id": 1, "file_name": "/b.jpg"}]}, "image '/b.jpg' lies outside"),
        ({**COCO, "annotations": None}, "no list 'annotations'"),
        ({**COCO, "annotations": COCO["annotations"][:1] * 2}, "annotation id 5 occurs twice"),
        ({**COCO, "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]}, "category 'x' occurs twice"),
        (DETECTIONS, "no image is called as its image ids, such as 42; give --image-ids"),
        ([{"image_id": 1}], r"detections\[0\] has no bbox"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(SamHqError, match=complaint):
        read(tmp_path / "p.json", content)


def test_a_name_that_may_be_two_images(tmp_path: Path) -> None:
    with pytest.raises(SamHqError, match=r"image id 42 may be 42.jpg or 042.png; give --image-ids"):
        read(tmp_path / "d.json", DETECTIONS, images=lambda: ["42.jpg", "042.png"])
