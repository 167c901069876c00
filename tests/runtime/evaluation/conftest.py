"""Small datasets in both layouts, and a predictor that knows their truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.eval_datasets import MASKS, SCENE, LeftHalves, left_halves, numbered_image, small_dataset, write_coco


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return small_dataset(tmp_path / "data")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[LeftHalves]:
    return left_halves(monkeypatch)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "data", [SCENE, SCENE])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """DIS's layout, of two images."""
    for folder in ("im", "gt"):
        (tmp_path / "DIS" / folder).mkdir(parents=True)
    for name, mask in zip(("a", "b"), MASKS, strict=True):
        Image.fromarray(numbered_image(mask[None])).save(tmp_path / "DIS" / "im" / f"{name}.png")
        Image.fromarray(mask * np.uint8(255)).save(tmp_path / "DIS" / "gt" / f"{name}.png")
    return tmp_path / "DIS"
