"""Pictures of the worst and the changed objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from samhq_runtime import Bundle
from samhq_runtime.errors import DatasetError
from samhq_runtime.evaluation import evaluate, pictures
from tests.support.eval_datasets import rectangles


def test_pictures_of_the_worst_and_the_changed(tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path) -> None:
    (tmp_path / "worst-09.png").touch()
    (tmp_path / "worst-notes.txt").touch()
    evaluate([tiny_bundle], dataset, providers=[("cpu",), ("half",)], output=tmp_path, worst=2)
    found = sorted(path.name for path in tmp_path.glob("*.png"))
    assert found == ["changed-01.png", "changed-02.png", "worst-01.png", "worst-02.png"]
    with Image.open(tmp_path / "changed-01.png") as picture:
        assert (picture.width, picture.mode) == (3 * 288, "RGB")
    chart = (tmp_path / "calibration.svg").read_text()
    assert chart.count("<circle") == 4  # a bin and a legend entry for each
    assert (tmp_path / "worst-notes.txt").exists()


def test_image_that_is_gone_before_it_is_drawn(
    tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_lose(path: Path, text: str) -> None:
        (dataset.parent / "1.png").unlink(missing_ok=True)

    monkeypatch.setattr("samhq_runtime.evaluation.run.write_text", write_and_lose)
    with pytest.raises(DatasetError, match=r"1\.png: image missing .*the dataset has changed since"):
        evaluate([tiny_bundle], dataset, output=tmp_path / "out")


def test_zoom_is_where_the_outlines_differ() -> None:
    truth = rectangles((20, 20, 180, 180), hw=(200, 200))[0]
    predicted = truth.copy()
    predicted[150:180, 150:180] = False
    rows, columns = pictures.zoom_window(predicted, truth)
    assert rows.start < 165 < rows.stop
    assert columns.start < 165 < columns.stop
    assert rows.stop - rows.start == columns.stop - columns.start < 60
