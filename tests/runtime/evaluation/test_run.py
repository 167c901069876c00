"""`samhq_runtime.evaluate`: exact figures from a predictor that knows the truth, memory, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from samhq_runtime import Bundle
from samhq_runtime.errors import BackendUnavailable, BundleError, ConfigError, DatasetError
from samhq_runtime.evaluation import evaluate
from samhq_runtime.evaluation import measure as measure_module
from samhq_runtime.frames.image_files import allow_megapixels
from tests.support.eval_datasets import SCENES, LeftHalves, numbered_image, rectangles, write_coco


@pytest.mark.parametrize("prompts", ["box", "point"])
def test_truth_as_prediction_is_perfect(
    tiny_bundle: Bundle, dataset: Path, fake: type[LeftHalves], prompts: str
) -> None:
    report = evaluate([tiny_bundle], dataset, prompts=prompts)
    scores = report.bundles[0].scores
    assert (scores.objects, scores.images, scores.non_finite) == (2 * SCENES, SCENES, 0)
    assert (scores.mean_iou, scores.mean_boundary_iou) == (1, 1)
    assert scores.mean_iou_interval == scores.mean_boundary_iou_interval == (1, 1)
    assert (scores.calibration.expected_error, scores.calibration.bias) == (0.25, -0.25)
    assert [b.objects for b in scores.calibration.bins] == [0] * 7 + [2 * SCENES, 0, 0]
    assert {name: group.objects for name, group in scores.by_size.items()} == {
        "small": SCENES,
        "medium": SCENES,
        "large": 0,
    }
    assert (report.comparisons, report.skipped) == ((), ())


def test_half_of_every_object(tiny_bundle: Bundle, dataset: Path, fake: type[LeftHalves]) -> None:
    report = evaluate([tiny_bundle], dataset, providers=[("cpu",), ("half",)])
    whole, half = report.bundles
    name = tiny_bundle.path.name
    assert (whole.name, half.name) == (f"{name} [cpu]", f"{name} [half]")
    assert (whole.scores.mean_iou, half.scores.mean_iou) == (1, 0.5)
    # Radius 2. Of the 36 x 30 object the ring has 36 * 30 - 32 * 26 pixels, its left half 18 * 30 - 14 * 26; what both
    # share is the ring's part in columns 0 to 17. The 4 x 4 square is all boundary, and so is its half.
    ring, ring_of_half, shared = 36 * 30 - 32 * 26, 18 * 30 - 14 * 26, 2 * 30 + 16 * 4
    expected = (shared / (ring + ring_of_half - shared) + 0.5) / 2
    assert half.scores.mean_boundary_iou == pytest.approx(expected)
    (comparison,) = report.comparisons
    assert (comparison.bundle, comparison.baseline) == (half.name, whole.name)
    assert (comparison.mean_iou_difference, comparison.mean_iou_interval) == (-0.5, (-0.5, -0.5))
    assert comparison.mean_boundary_iou_difference == pytest.approx(expected - 1)
    assert (comparison.changed, comparison.largest_drop, comparison.objects) == (1, 0.5, 2 * SCENES)
    assert (comparison.largest_drop_image, comparison.largest_drop_target) == ("1.png", "1")


def test_nan_is_counted_and_kept_out_of_the_calibration(
    tiny_bundle: Bundle, dataset: Path, fake: type[LeftHalves]
) -> None:
    fake.predicted_iou = float("nan")
    report = evaluate([tiny_bundle], dataset)
    assert report.bundles[0].scores.non_finite == 2 * SCENES
    assert report.bundles[0].scores.calibration.expected_error is None
    assert json.loads(report.to_json())["bundles"][0]["scores"]["mean_iou"] == 1
    assert "8 objects with NaN or infinity" in report.to_text()


def test_few_masks_at_once_change_nothing(
    tiny_bundle: Bundle, dataset: Path, fake: type[LeftHalves], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = evaluate([tiny_bundle], dataset)
    monkeypatch.setattr(measure_module, "_PIXELS_AT_ONCE", 1)
    assert evaluate([tiny_bundle], dataset) == together
    assert fake.images == 2 * SCENES


MEMORY = """
import resource, sys
sys.path[:0] = {path!r}
from pathlib import Path
from tests.support.eval_datasets import FakePredictor
from samhq_runtime.evaluation import evaluate, subjects
subjects.Predictor = FakePredictor
evaluate([{bundle!r}], {dataset!r}, limit={limit}, output={output!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_memory_does_not_grow_with_the_dataset(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Ten times the images, 0.5 MB each with their masks in memory: kept, they would be 90 MB more."""
    masks = rectangles((5, 5, 300, 200), hw=(320, 400))
    path = write_coco(tmp_path / "data", [(numbered_image(masks), masks)] * 200)
    peaks = []
    for limit in (20, 200):
        output = str(tmp_path / str(limit))
        code = MEMORY.format(path=sys.path, bundle=str(tiny_bundle.path), dataset=str(path), limit=limit, output=output)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] - peaks[0] < 20, peaks


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"prompts": "mask"}, ConfigError, "choose from box, point"),
        ({"limit": 0}, ConfigError, "at least 1 image"),
        ({"worst": -1}, ConfigError, "0 to 99"),
        ({"bundles": []}, ConfigError, "got none"),
        ({"bundles": ["nowhere"]}, BundleError, "no such folder"),
        ({"dataset": "nowhere"}, DatasetError, "no such dataset"),
        ({"providers": [("cpu",), ("cpu",)]}, ConfigError, "each once"),
        ({"providers": [("engine",)]}, (BundleError, BackendUnavailable), "no engine of image_encoder"),
        ({"providers": [("gpu",)]}, ConfigError, "unknown provider gpu"),
    ],
)
def test_what_is_refused_leaves_nothing(
    tiny_bundle: Bundle, dataset: Path, tmp_path: Path, options: dict[str, Any], error: type, complaint: str
) -> None:
    arguments = {"bundles": [tiny_bundle], "dataset": dataset, "output": tmp_path / "out", **options}
    with pytest.raises(error, match=complaint):
        evaluate(**arguments)
    assert not (tmp_path / "out").exists()


def test_dataset_without_a_usable_object(tiny_bundle: Bundle, dataset: Path, fake: Any) -> None:
    for image in dataset.parent.glob("[2-4].png"):
        image.unlink()
    dataset.with_name("1.png").write_text("no image")
    with pytest.raises(DatasetError, match=r"not one object .* 4 were left out; the first: 1\.png: image unreadable"):
        evaluate([tiny_bundle], dataset)


def test_large_images_are_measured_again_by_those_who_say_so(
    tiny_bundle: Bundle, dataset: Path, tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run left out for its size is no result to take over."""
    Image.fromarray(numbered_image(rectangles((5, 5, 30, 40), hw=(160, 80)))).save(dataset.with_name("1.png"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 80)
    first = evaluate([tiny_bundle], dataset, output=tmp_path / "out")
    assert [skip.reason for skip in first.skipped] == ["image unreadable"]
    with warnings.catch_warnings():
        allow_megapixels(1)
        report = evaluate([tiny_bundle], dataset, output=tmp_path / "out")
    assert {skip.reason for skip in report.skipped} == {"image of another size than annotated"}
