"""Folders of images and masks: their layouts, and a name and a reason for all that is not read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samhq_runtime.errors import DatasetError
from samhq_runtime.evaluation.measure import Setting
from samhq_runtime.evaluation.open import open_dataset
from tests.support.eval_datasets import MASKS, SCENE, cut_short, read_all


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
        (cut_short, "mask unreadable"),
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


SUFFIXES: dict[str, tuple[str, str]] = {  # name of the masks, --mask-suffix
    "GIF": ("{}_mask.gif", "_mask.gif"),
    "JPEG": ("{}.jpg", ".jpg"),
    "of any type": ("{}-seg.bmp", "-seg"),
    "in capitals": ("{}_m.PNG", "_m.png"),
}


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("case", SUFFIXES)
def test_masks_named_otherwise(pairs: Path, case: str, together: bool) -> None:
    name, suffix = SUFFIXES[case]
    folder = pairs / "im" if together else pairs / "gt"
    for mask in list((pairs / "gt").iterdir()):
        target = folder / name.format(mask.stem)
        Image.open(mask).convert("L").save(target, quality=95) if "j" in suffix else Image.open(mask).save(target)
        mask.unlink()
    if not together:
        assert read_all(pairs, mask_suffix=suffix) == (["a.png", "b.png"], [], [1.0] * 2)
    elif suffix != ".jpg":  # whose images would be masks, too
        assert read_all(pairs / "im", mask_suffix=suffix) == (["a.png", "b.png"], [], [1.0] * 2)


def test_names_composed_and_decomposed(pairs: Path) -> None:
    (pairs / "im" / "a.png").rename(pairs / "im" / "caf\u00e9.png")
    (pairs / "gt" / "a.png").rename(pairs / "gt" / "cafe\u0301.png")
    assert read_all(pairs)[2] == [1.0] * 2


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
        ({"path": "DIS/im", "masks": "DIS/other"}, "--mask-suffix _mask.gif reads masks named x_mask.gif for x.jpg"),
    ],
)
def test_folder_that_is_refused(pairs: Path, arguments: dict[str, str], complaint: str) -> None:
    for folder in ("empty", "other"):
        (pairs / folder).mkdir()
    (pairs / "gt" / "a.png").rename(pairs / "other" / "z.png")
    with pytest.raises(DatasetError) as error:
        open_dataset(**{name: pairs.parent / value for name, value in arguments.items()})
    assert complaint in str(error.value)


@pytest.mark.parametrize("suffix", ["_mask.txt", "../x.png", "."])
def test_suffix_that_is_none(pairs: Path, suffix: str) -> None:
    with pytest.raises(DatasetError, match=r"--mask-suffix .*expected what follows the image's name"):
        open_dataset(pairs, mask_suffix=suffix)


def test_options_of_the_other_kind(pairs: Path, coco: Path) -> None:
    with pytest.raises(DatasetError, match="--include-crowd goes with an annotation file"):
        open_dataset(pairs, include_crowd=True)
    with pytest.raises(DatasetError, match="--mask-suffix goes with a folder"):
        open_dataset(coco, mask_suffix="_mask.png")


def test_two_images_of_one_name_are_refused(pairs: Path) -> None:
    Image.open(pairs / "im" / "a.png").save(pairs / "im" / "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.jpg and a\.png have the same name"):
        open_dataset(pairs)


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
