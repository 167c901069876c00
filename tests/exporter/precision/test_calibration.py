"""Which images activations are measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samhq_exporter.precision.calibration import MOST_IMAGES, calibration_set
from samhq_runtime.errors import ConfigError


def folder_of_images(folder: Path, count: int) -> Path:
    """Images named and coloured by their number; every other one in a folder below."""
    for number in range(count):
        place = folder / ("below" if number % 2 else ".")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (number, 0, 0)).save(place / f"{number:03}.png")
    return folder


def test_drawn_scenes_by_default() -> None:
    drawn = calibration_set(())
    images = [load() for load in drawn.images]
    assert drawn.source == "drawn scenes"
    assert len(images) > 1
    assert (images[0].image != images[1].image).any()
    assert all(image.boxes.shape == (len(image.boxes), 4) for image in images)


@pytest.mark.parametrize("count", [1, 3, MOST_IMAGES, MOST_IMAGES + 40])
def test_images_of_a_folder(tmp_path: Path, count: int) -> None:
    """At most `MOST_IMAGES`, spread over all of them, each read when its turn comes."""
    folder = folder_of_images(tmp_path / "images", count)
    (folder / "notes.txt").write_text("no image")
    found = calibration_set([folder])
    taken = min(count, MOST_IMAGES)
    assert (len(found.images), found.source) == (taken, f"{taken} of {count} given images")
    numbers = {int(load().image[0, 0, 0]) for load in found.images}
    assert len(numbers) == taken


def test_files_and_folders(tmp_path: Path) -> None:
    folder = folder_of_images(tmp_path / "images", 2)
    (image,) = calibration_set([folder / "000.png"]).images
    np.testing.assert_array_equal(image().boxes, [[1, 1, 7, 5]])
    assert len(calibration_set([folder, folder / "000.png"]).images) == 3


@pytest.mark.parametrize(("name", "complaint"), [("nowhere", "no such file or folder"), ("empty", "no images in it")])
def test_nothing_to_measure_on(tmp_path: Path, name: str, complaint: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=complaint):
        calibration_set([tmp_path / name])
