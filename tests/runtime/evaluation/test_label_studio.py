"""Label Studio's own JSON: every kind of region, and a name and a reason for all that is not read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime.errors import DatasetError
from samhq_runtime.evaluation.measure import Setting
from samhq_runtime.evaluation.open import open_dataset
from samhq_runtime.masks.brush import unpack_brush
from tests.support.eval_datasets import MASKS, numbered_image, read_all, rectangles
from tests.support.json_files import edit_json

FIRST = (5, 5, 30, 40)  # of MASKS, ends excluded
Region = dict[str, Any]


def region(kind: str, number: int = 0, **value: Any) -> Region:
    stated = {"original_width": 80, "original_height": 60, "image_rotation": 0}
    return {"id": f"r{number}", "type": kind, "from_name": "label", "to_name": "image", "value": value, **stated}


def in_percent(x0: float, y0: float, x1: float, y1: float) -> dict[str, float]:
    return {"x": x0 / 0.8, "y": y0 / 0.6, "width": (x1 - x0) / 0.8, "height": (y1 - y0) / 0.6, "rotation": 0}


def packed(mask: Any) -> list[int]:
    """White paint as Label Studio packs it, in runs of one size."""
    values = np.repeat(mask.ravel() * 255, 4)
    bits = f"{len(values):032b}" + f"{7:05b}" + f"{15:04b}" * 4
    for value, run in itertools.groupby(values.tolist()):
        bits += f"1{0:02b}{len(list(run)) - 1:016b}{value:08b}"
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8, "big"))


POLYGON = {"points": [[x / 0.8, y / 0.6] for x, y in ((50, 10), (70, 10), (70, 30), (50, 30))], "closed": True}


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """Two tasks of two regions, a rectangle and a polygon, whose images were uploaded."""
    tasks = []
    for number in (1, 2):
        Image.fromarray(numbered_image(MASKS)).save(tmp_path / f"{number}.png")
        result = [region("rectanglelabels", **in_percent(*FIRST)), region("polygonlabels", 1, **POLYGON)]
        annotation = {"id": 7, "was_cancelled": False, "created_at": "2026-01-01", "result": result}
        data = {"image": f"/data/upload/1/0123abcd-{number}.png", "note": "n"}
        tasks.append({"id": number, "data": data, "annotations": [annotation], "predictions": [{"result": []}]})
    path = tmp_path / "project.json"
    path.write_text(json.dumps(tasks))
    return path


NAMES = ["/data/upload/1/0123abcd-1.png", "/data/upload/1/0123abcd-2.png"]


def test_tasks_of_label_studio(studio: Path) -> None:
    """Images are found under the name they were uploaded with, and under their own."""
    assert read_all(studio) == ([name.replace("0123abcd-", "") for name in NAMES], [], [1.0] * 4)
    for number in (1, 2):
        (studio.parent / f"{number}.png").rename(studio.parent / f"0123abcd-{number}.png")
    assert read_all(studio) == (NAMES, [], [1.0] * 4)
    assert open_dataset(studio).layout == "Label Studio"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("http://localhost:8080/data/upload/1/a%20b.png", "a b.png"),
        ("s3://bucket/folder/x.png", "x.png"),
        ("/data/local-files/?d=folder%2Fx.png", "folder/x.png"),
        (r"C:\data\x.png", "x.png"),
        ("x.png", "x.png"),
    ],
)
def test_addresses_of_images(studio: Path, address: str, name: str) -> None:
    target = studio.parent / name
    target.parent.mkdir(exist_ok=True)
    studio.with_name("2.png").rename(target)
    edit_json(studio, lambda tasks: tasks[1].update(data={"img": address}))  # type: ignore[index]
    assert read_all(studio)[1:] == ([], [1.0] * 4)


def change_first(studio: Path, *results: Any) -> None:
    edit_json(studio, lambda tasks: tasks[0]["annotations"][0]["result"].__setitem__(slice(0, 1), results))  # type: ignore[index]


REGIONS: dict[str, list[Any]] = {
    "brush": [region("brushlabels", format="rle", rle=packed(MASKS[0]))],
    "a rectangle without labels": [region("rectangle", **in_percent(*FIRST))],
    "labels of their own": [region("labels", labels=["x"]), region("rectangle", **in_percent(*FIRST))],
    "turned": [region("rectangle", x=30 / 0.8, y=5 / 0.6, width=35 / 0.8, height=25 / 0.6, rotation=90)],
    "a choice beside it": [{"type": "choices", "value": {}}, 3, region("rectangle", **in_percent(*FIRST))],
}
NO_REGIONS: dict[str, tuple[Region, str]] = {
    "a key point": (region("keypointlabels", x=5, y=5, width=1), "region not read"),
    "a turned image": ({**region("rectangle", **in_percent(*FIRST)), "image_rotation": 90}, "region not read"),
    "no width": (region("rectangle", x=5, y=5, height=9), "segmentation not usable"),
    "far away": (region("rectangle", x=5, y=5, height=9, width=1e9), "segmentation not usable"),
    "no points": (region("polygon"), "segmentation not usable"),
    "cut runs": (region("brush", rle=packed(MASKS[0])[:-9]), "mask unreadable"),
    "runs of another size": (region("brush", rle=packed(MASKS[0, 1:])), "mask unreadable"),
    "runs of text": (region("brush", rle="abc"), "mask unreadable"),
    "no bytes": (region("brush", rle=[1, 2, 300]), "mask unreadable"),
    "no runs": (region("brush"), "mask unreadable"),
    "a number of bytes": (region("brush", rle=10**12), "mask unreadable"),
    "nothing painted": (region("brush", rle=packed(np.zeros((60, 80), np.uint8))), "empty mask"),
}


@pytest.mark.parametrize("case", REGIONS)
def test_regions_of_label_studio(studio: Path, case: str) -> None:
    change_first(studio, *REGIONS[case])
    assert read_all(studio)[1:] == ([], [1.0] * 4)


@pytest.mark.parametrize("case", NO_REGIONS)
def test_regions_that_are_left_out(studio: Path, case: str) -> None:
    given, reason = NO_REGIONS[case]
    change_first(studio, given)
    assert read_all(studio)[1:] == ([("/data/upload/1/1.png", "r0", reason)], [1.0] * 3)


def test_an_ellipse(studio: Path) -> None:
    change_first(studio, region("ellipselabels", x=50, y=50, radiusX=25, radiusY=20, rotation=90))
    mask = open_dataset(studio).read("/data/upload/1/1.png").read_mask("r0")
    assert abs(mask.sum() / (np.pi * 20 * 12) - 1) < 0.02
    assert mask[11:49, 40].all()


def test_the_newest_annotation_counts(studio: Path) -> None:
    def more(tasks: Any) -> None:
        annotations = tasks[0]["annotations"]
        annotations.insert(0, {**annotations[0], "id": 8, "created_at": "2026-02-01"})
        annotations.append({"id": 9, "was_cancelled": True, "created_at": "2026-03-01", "result": []})
        annotations[1]["result"] = []

    edit_json(studio, more)
    older = ("/data/upload/1/0123abcd-1.png", "annotation 7", "an older annotation of the task")
    assert read_all(studio)[1:] == ([older], [1.0] * 4)


TASKS: dict[str, tuple[object, tuple[str, str | None, str]]] = {
    "text": ("x", ("task 1", None, "no image in the task")),
    "no data": ({"id": 5}, ("task 5", None, "no image in the task")),
    "two texts": ({"id": 5, "data": {"a": "1.png", "b": "2.png"}}, ("task 5", None, "no image in the task")),
    "the same": ({"id": 5, "data": {"image": NAMES[0]}}, (NAMES[0], None, "image annotated twice")),
    "not annotated": ({"id": 5, "data": {"image": "2.png"}}, ("2.png", None, "no annotation for the image")),
    "annotations of text": (
        {"id": 5, "data": {"image": "2.png"}, "annotations": "x"},
        ("2.png", None, "no annotation for the image"),
    ),
    "an address of nothing": (
        {"id": 5, "data": {"image": "http://[x"}},
        ("http://[x", None, "no annotation for the image"),
    ),
}


@pytest.mark.parametrize("case", TASKS)
def test_tasks_that_are_left_out(studio: Path, case: str) -> None:
    task, expected = TASKS[case]
    edit_json(studio, lambda tasks: tasks.__setitem__(1, task))
    assert read_all(studio)[1:] == ([expected], [1.0] * 2)


def test_what_is_refused(studio: Path) -> None:
    with pytest.raises(DatasetError, match=r"--include-crowd goes with COCO annotations; .* has no crowd regions"):
        open_dataset(studio, include_crowd=True)
    assert {reason for _, _, reason in read_all(studio, Setting(prompts="bbox"))[1]} == {"no box for the object"}
    studio.write_text('[{"id": 1, "image": "x.png", "annotator": 1, "label": []}]')
    with pytest.raises(DatasetError, match=r"project\.json: Label Studio's JSON-MIN; export the project as JSON"):
        open_dataset(studio)
    studio.write_text('[{"id": 1, "data": {}}]')
    with pytest.raises(DatasetError, match="1 tasks of Label Studio, none with an image"):
        open_dataset(studio)


def test_runs_as_label_studio_packs_them() -> None:
    """A 3 x 4 picture packed by label-studio-converter 0.0.59, with values that stand alone."""
    runs = [
        0, 0, 0, 48, 57, 27, 254, 19, 0, 0, 68, 12, 128, 7, 128, 255, 0, 68, 12, 128, 7, 128, 255, 156, 0, 1, 16, 50, 0,
        30, 3, 252, 1, 16, 50, 0, 30, 3, 254, 48, 0,
    ]  # fmt: skip
    mask = rectangles((1, 1, 3, 3), hw=(3, 4))[0]
    expected = np.where(mask[..., None], (17, 200, 30, 255), 0).ravel()
    np.testing.assert_array_equal(unpack_brush(bytes(runs), 48), expected)
    for length in range(len(runs) - 1):
        with pytest.raises(ValueError, match=r"too early|four for each pixel"):
            unpack_brush(bytes(runs[:length]), 48)
