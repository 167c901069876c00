"""Every format, read back by the other projects' own readers where they are installed.

In CI are pycocotools, OpenCV and GDAL. supervision, ultralytics, labelme and label-studio-sdk are too heavy for it, or
bring versions of their own of what is tested here; their tests run where they are:

    python -m pip install supervision labelme label-studio-sdk ultralytics
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samhq_runtime.errors import ConfigError
from samhq_runtime.evaluation.open import open_dataset
from samhq_runtime.formats import FORMATS, Catalogue, FoundObject, ImageResult, Outputs, chosen_formats
from samhq_runtime.masks.rle import encode_rle
from tests.support.json_files import edit_json

Mask = NDArray[np.bool_]
HW = (60, 80)
CATEGORIES = {"cat": 3, "dog": 7}
NAMES = ("a.png", "b/c.png")


def filled(*boxes: tuple[int, int, int, int], holes: tuple[tuple[int, int, int, int], ...] = ()) -> Mask:
    """(H,W), True in `boxes` of x0, y0, x1, y1, ends excluded, and not in `holes`."""
    mask = np.zeros(HW, bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    for x0, y0, x1, y1 in holes:
        mask[y0:y1, x0:x1] = False
    return mask


def disc() -> Mask:
    y, x = np.mgrid[: HW[0], : HW[1]]
    return np.asarray((x - 40.3) ** 2 + (y - 30.2) ** 2 < 14**2)


# whole; stairs; up to every edge; with two holes; in two parts of which one has a hole; without a pixel
MASKS = {
    "box": filled((5, 6, 30, 40)),
    "disc": disc(),
    "full": filled((0, 0, 80, 60)),
    "holes": filled((10, 5, 70, 55), holes=((20, 10, 35, 30), (50, 30, 60, 50))),
    "parts": filled((2, 2, 20, 30), (40, 20, 75, 58), holes=((50, 30, 60, 40),)),
    "empty": filled(),
}
HOLED, PARTED = ("holes", "parts"), ("parts",)


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    """Two images with all of the masks, in every format."""
    results = []
    for name in NAMES:
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*HW, 3), np.uint8)).save(file)
        results.append(ImageResult(name, file, HW, [found(mask, n) for n, mask in enumerate(MASKS.values())]))
    out = Outputs(folder=tmp_path / "out", formats=list(FORMATS), catalogue=Catalogue(CATEGORIES, {"b/c.png": 12}))
    for result in results:
        out.write_image(result, lambda: pytest.fail("no picture was asked for"))
    out.write_run(lambda: iter(results))
    return out


def found(mask: Mask, number: int) -> FoundObject:
    return FoundObject(
        rle=json.loads(encode_rle(mask)), predicted_iou=0.5 + number / 10, category=("cat", "dog")[number % 2]
    )


def category_ids() -> list[int]:
    return [(3, 7)[number % 2] for number in range(len(MASKS))]


def test_every_format_is_here() -> None:
    """A new row needs a reader below."""
    assert list(FORMATS) == ["coco", "png", "npz", "yolo", "labelme", "label-studio", "geojson"]


def test_coco_in_pycocotools(outputs: Outputs) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="the reader of COCO files")
    file = coco.COCO(str(outputs.folder / "coco" / "annotations.json"))
    assert {key: image["file_name"] for key, image in file.imgs.items()} == {1: "a.png", 12: "b/c.png"}
    assert {key: entry["name"] for key, entry in file.cats.items()} == {3: "cat", 7: "dog"}
    assert len(file.anns) == 2 * len(MASKS)
    annotations = file.loadAnns(file.getAnnIds(imgIds=[12]))
    for annotation, mask, category in zip(annotations, MASKS.values(), category_ids(), strict=True):
        np.testing.assert_array_equal(file.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()
        assert annotation["category_id"] == category
    assert annotations[0]["bbox"] == [5, 6, 25, 34]
    assert len(file.loadRes(list(file.anns.values())).anns) == 2 * len(MASKS)  # as results of a detector: has `score`


def test_coco_in_supervision(outputs: Outputs, tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision", reason="too heavy for CI")
    data = sv.DetectionDataset.from_coco(
        str(tmp_path / "photos"), str(outputs.folder / "coco" / "annotations.json"), force_masks=True
    )
    assert data.classes == ["cat", "dog"]
    for _, _, detections in data:
        np.testing.assert_array_equal(detections.mask, list(MASKS.values()))
        assert detections.class_id.tolist() == [number % 2 for number in range(len(MASKS))]


def test_png_and_npz(outputs: Outputs) -> None:
    folder = outputs.folder / "png" / "b" / "c.png"
    assert sorted(path.name for path in folder.iterdir()) == [f"{number}.png" for number in range(1, 7)]
    arrays = np.load(outputs.folder / "npz" / "b" / "c.png.npz")
    for number, mask in enumerate(MASKS.values()):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{number + 1}.png")), mask * np.uint8(255))
        np.testing.assert_array_equal(arrays["masks"][number], mask)
    np.testing.assert_allclose(arrays["predicted_iou"], [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert arrays["categories"].tolist() == ["cat", "dog"] * 3


def grown_at_most(got: Mask, mask: Mask) -> None:
    """`mask` and no pixel more than OpenCV adds: it fills the pixels that an outline runs through, and cuts too."""
    wider = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not (mask & ~got).any()
    beyond = (got & ~wider).sum()
    assert beyond <= 20, beyond  # cuts through holes and between parts, a pixel wide


NOT_EMPTY = [mask for mask in MASKS.values() if mask.any()]


def test_yolo_filled_by_opencv(outputs: Outputs) -> None:
    """As the tools that read it do it: a polygon a line, in fractions of the size, filled."""
    lines = (outputs.folder / "yolo" / "labels" / "b" / "c.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "0", "1", "0"]
    for line, mask in zip(lines, NOT_EMPTY, strict=True):
        ring = np.array(line.split()[1:], np.float64).reshape(-1, 2)
        assert ring.min() >= 0
        assert ring.max() <= 1
        got = np.zeros(HW, np.uint8)
        cv2.fillPoly(got, [(ring * HW[::-1]).round().astype(np.int32)], 1)
        grown_at_most(got > 0, mask)
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load((outputs.folder / "yolo" / "data.yaml").read_text())
    assert data["names"] == {0: "cat", 1: "dog"}
    assert (Path(data["path"]) / data["train"] / "b" / "c.png").resolve() == outputs.folder.parent / "photos/b/c.png"


def test_yolo_in_supervision(outputs: Outputs) -> None:
    sv = pytest.importorskip("supervision", reason="too heavy for CI")
    folder = outputs.folder / "yolo"
    data = sv.DetectionDataset.from_yolo(
        str(folder / "images" / "b"), str(folder / "labels" / "b"), str(folder / "data.yaml"), force_masks=True
    )
    ((_, _, detections),) = list(data)
    assert data.classes == ["cat", "dog"]
    for got, mask in zip(detections.mask, NOT_EMPTY, strict=True):
        grown_at_most(got, mask)


def test_yolo_in_ultralytics(outputs: Outputs) -> None:
    utils = pytest.importorskip("ultralytics.data.utils", reason="too heavy for CI")
    images = [str(path) for path in sorted((outputs.folder / "yolo" / "images").rglob("*.png"))]
    labels = utils.img2label_paths(images)
    for image, label in zip(images, labels, strict=True):
        _, rows, shape, segments, _, _, found, _, corrupt, message = utils.verify_image_label(
            (image, label, "", False, 2, 0, 0, False)
        )
        assert (found, corrupt, message, shape) == (1, 0, "", HW)
        assert rows[:, 0].tolist() == [0, 1, 0, 1, 0]
        for ring, mask in zip(segments, NOT_EMPTY, strict=True):
            points = (ring * HW[::-1]).round().astype(np.int32).reshape(1, -1)
            grown_at_most(utils.polygon2mask(HW, points) > 0, mask)


def test_labelme_in_its_own_reader(outputs: Outputs) -> None:
    reader = pytest.importorskip("labelme._label_file", reason="brings Qt, too heavy for CI")
    file = reader.LabelFile(str(outputs.folder / "labelme" / "b" / "c.json"))
    shapes = [(shape["label"], shape["shape_type"]) for shape in file.shapes]
    assert shapes == [("cat", "polygon"), ("dog", "polygon"), ("cat", "polygon"), ("dog", "mask"), ("cat", "mask")]
    for shape, mask in zip(file.shapes[3:], (MASKS["holes"], MASKS["parts"]), strict=True):
        (x0, y0), (x1, y1) = np.array(shape["points"], int)
        np.testing.assert_array_equal(shape["mask"], mask[y0 : y1 + 1, x0 : x1 + 1])


def test_label_studio_in_its_own_converter(outputs: Outputs, tmp_path: Path) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="too heavy for CI")
    converter = pytest.importorskip("label_studio_sdk.converter").Converter
    tasks = accepted(outputs.folder / "label-studio" / "tasks.json")
    tool = converter((outputs.folder / "label-studio" / "config.xml").read_text(), project_dir=None)
    items = list(tool.iter_from_json_file(str(tasks)))
    assert len(items) == 2
    painted = [r for r in json.loads(tasks.read_text())[1]["annotations"][0]["result"] if "rle" in r["value"]]
    for region, name in zip(painted, HOLED, strict=True):
        pixels = brush.decode_rle(region["value"]["rle"]).reshape(*HW, 4)
        np.testing.assert_array_equal(pixels[..., 3] > 0, MASKS[name])


def accepted(tasks: Path) -> Path:
    """The tasks once somebody took over their predictions: Label Studio then exports annotations."""

    def accept(content: Any) -> None:
        for number, task in enumerate(content, 1):
            result = task["predictions"][0]["result"]
            task.update(id=number, annotations=[{"id": number, "was_cancelled": False, "result": result}])

    edit_json(tasks, accept)
    return tasks


@pytest.mark.parametrize(
    ("file", "photos"),
    [("coco/annotations.json", "photos"), ("labelme/b", "photos/b"), ("label-studio/tasks.json", "photos")],
)
def test_samhq_eval_reads_them_too(outputs: Outputs, tmp_path: Path, file: str, photos: str) -> None:
    path = outputs.folder / file
    if "studio" in file:
        accepted(path)
    data = open_dataset(path, images=tmp_path / photos)
    sample = data.read(data.names[-1])
    masks = [sample.read_mask(target) for target in sample.targets]
    for got, mask in zip(masks, NOT_EMPTY, strict=False):  # COCO has the empty one too
        np.testing.assert_array_equal(got, mask)


def test_geojson_in_gdal(outputs: Outputs) -> None:
    import shapely
    from pyogrio.raw import read

    _, _, geometry, fields = read(outputs.folder / "geojson" / "b" / "c.png.geojson", columns=["category"])
    assert fields[0].tolist() == ["cat", "dog"] * 3
    assert geometry[-1] is None
    for shape, mask in zip(shapely.from_wkb(geometry[:-1]), NOT_EMPTY, strict=True):
        rows, columns = np.mgrid[: HW[0], : HW[1]] + 0.5
        np.testing.assert_array_equal(shapely.contains_xy(shape, columns, rows), mask)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("coc", "got 'coc', expected some of coco,png"), ("coco,", "got ''"), ("COCO", "got 'COCO'")],
)
def test_unknown_formats(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        chosen_formats(text)


def test_simplified_polygons_have_fewer_corners_and_stay_close(tmp_path: Path) -> None:
    corners = {}
    for simplify in (0.0, 1.0):
        catalogue = Catalogue(CATEGORIES, simplify=simplify)
        (polygon,) = found(MASKS["disc"], 0).polygons(catalogue)
        corners[simplify] = len(polygon.exterior.coords)
        assert polygon.hausdorff_distance(found(MASKS["disc"], 0).polygons(Catalogue())[0]) <= simplify
    assert corners[1.0] < corners[0.0] / 2


def test_files_that_two_images_would_share_are_refused(tmp_path: Path) -> None:
    outputs = Outputs(folder=tmp_path, formats=["coco", "yolo"])
    outputs.require_own_files(["a/cat.jpg", "b/cat.jpg"])
    with pytest.raises(ConfigError, match=r"a/cat\.jpg and a/cat\.png would both be .*a/cat\.txt"):
        outputs.require_own_files(["a/cat.jpg", "a/cat.png"])
