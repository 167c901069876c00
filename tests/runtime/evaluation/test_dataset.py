"""A dataset's fingerprint, and how its images are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samhq_runtime.errors import ConfigError
from samhq_runtime.evaluation.open import open_dataset


def test_fingerprint_follows_the_files(coco: Path, pairs: Path) -> None:
    for path, changed in ((coco, coco.with_name("2.png")), (coco, coco), (pairs, pairs / "gt" / "a.png")):
        before = open_dataset(path).fingerprint()
        assert open_dataset(path).fingerprint() == before
        changed.write_bytes(changed.read_bytes() + b" ")
        assert open_dataset(path).fingerprint() != before


@pytest.mark.parametrize("layout", ["coco", "pairs"])
def test_images_of_twelve_bits_in_sixteen(layout: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(layout)
    image = next(iter([*path.glob("im/*"), *path.parent.glob("1.png")]))
    height, width, _ = np.asarray(Image.open(image)).shape
    Image.fromarray(np.full((height, width), 4095, np.uint16)).save(image)
    read = {white: open_dataset(path, white_point=white) for white in (65535, 4095)}
    for white, value in ((65535, 16), (4095, 255)):
        assert (read[white].read(image.name).image == value).all()
    assert read[65535].fingerprint() == open_dataset(path).fingerprint() != read[4095].fingerprint()
    with pytest.raises(ConfigError, match="--white-point: got 0, expected 1 to 65535"):
        open_dataset(path, white_point=0)
