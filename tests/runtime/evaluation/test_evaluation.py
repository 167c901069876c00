"""`samhq eval`: exact figures from a predictor that knows the truth, resuming, pictures, and the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.scenes.drawing import draw_scene
from samhq_runtime import Bundle
from samhq_runtime.cli import main
from samhq_runtime.errors import BackendUnavailable, BundleError, ConfigError, DatasetError
from samhq_runtime.evaluation import Report, evaluate, pictures
from samhq_runtime.evaluation import measure as measure_module
from samhq_runtime.evaluation.subjects import open_subjects
from tests.support.eval_datasets import FakePredictor, numbered_image, rectangles, write_coco

# 36 x 30 pixels, COCO's medium, and 4 x 4.
MASKS = rectangles((5, 5, 41, 35), (50, 10, 54, 14))
SCENES = 4


class LeftHalves(FakePredictor):
    """Under the provider `half`, the left half of every object."""

    def spoil(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self.providers == ("cpu",):
            return mask
        columns = np.flatnonzero(mask.any(axis=0))
        kept = mask.copy()
        kept[:, columns[len(columns) // 2] :] = False
        return kept


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "data", [(numbered_image(MASKS), MASKS)] * SCENES)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakePredictor]:
    """A predictor class in place of the real one, which counts its images and may stop after some."""

    class Counting(LeftHalves):
        images = 0
        stop_after = 10**9

        def set_image(self, image: NDArray[np.uint8]) -> None:
            if Counting.images == Counting.stop_after:
                raise KeyboardInterrupt
            Counting.images += 1
            super().set_image(image)

    monkeypatch.setattr("samhq_runtime.evaluation.subjects.Predictor", Counting)
    return Counting


def figures(report: Report) -> dict[str, Any]:
    return json.loads(report.to_json())


@pytest.mark.parametrize("prompts", ["box", "point"])
def test_truth_as_prediction_is_perfect(
    tiny_bundle: Bundle, dataset: Path, fake: type[FakePredictor], prompts: str
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


def test_half_of_every_object(tiny_bundle: Bundle, dataset: Path, fake: type[FakePredictor]) -> None:
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
    tiny_bundle: Bundle, dataset: Path, fake: type[FakePredictor]
) -> None:
    fake.predicted_iou = float("nan")
    report = evaluate([tiny_bundle], dataset)
    assert report.bundles[0].scores.non_finite == 2 * SCENES
    assert report.bundles[0].scores.calibration.expected_error is None
    assert figures(report)["bundles"][0]["scores"]["mean_iou"] == 1
    assert "8 objects with NaN or infinity" in report.to_text()


def test_few_masks_at_once_change_nothing(
    tiny_bundle: Bundle, dataset: Path, fake: type[FakePredictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = evaluate([tiny_bundle], dataset)
    monkeypatch.setattr(measure_module, "_PIXELS_AT_ONCE", 1)
    assert evaluate([tiny_bundle], dataset) == together
    assert fake.images == 2 * SCENES  # type: ignore[attr-defined]


@pytest.mark.parametrize("stop_after", [1, 3, SCENES + 2])
def test_interrupted_run_goes_on_where_it_stopped(
    tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path, stop_after: int
) -> None:
    options: dict[str, Any] = {"providers": [("cpu",), ("half",)], "worst": 0}
    expected = evaluate([tiny_bundle], dataset, **options)
    fake.images, fake.stop_after = 0, stop_after
    with pytest.raises(KeyboardInterrupt):
        evaluate([tiny_bundle], dataset, output=tmp_path / "out", **options)
    assert not (tmp_path / "out" / "report.json").exists()
    fake.stop_after = 10**9
    notices: list[str] = []
    shown: list[float] = []
    report = evaluate(
        [tiny_bundle],
        dataset,
        output=tmp_path / "out",
        progress=lambda fraction, phase: shown.append(fraction),
        notice=notices.append,
        **options,
    )
    assert report == expected
    assert fake.images == 2 * SCENES
    assert notices == [f"{stop_after} of {2 * SCENES} images were measured in an earlier run"]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (stop_after / (2 * SCENES), 1)
    assert (tmp_path / "out" / "report.json").read_text() == expected.to_json()


@pytest.mark.parametrize("cut", [1, 30, 10**6])
def test_torn_last_line_is_measured_again(
    tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path, cut: int
) -> None:
    expected = evaluate([tiny_bundle], dataset, output=tmp_path, worst=0)
    (records,) = tmp_path.glob("records-*.jsonl")
    content = records.read_bytes()
    records.write_bytes(content[: max(9, len(content) - cut)])  # at most all but the start of the first line
    fake.images = 0
    assert evaluate([tiny_bundle], dataset, output=tmp_path, worst=0) == expected
    assert fake.images == (1 if cut < 10**6 else SCENES)
    assert records.read_bytes() == content


def test_damaged_line_is_an_error(tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path) -> None:
    evaluate([tiny_bundle], dataset, output=tmp_path, worst=0)
    (records,) = tmp_path.glob("records-*.jsonl")
    lines = records.read_bytes().split(b"\n")
    for number, damaged in ((1, b"{}"), (3, b"\0" * 20), (3, b'{"image": "1.png"}')):
        records.write_bytes(b"\n".join([*lines[: number - 1], damaged, *lines[number:]]))
        with pytest.raises(ConfigError, match=f"line {number} is damaged"):
            evaluate([tiny_bundle], dataset, output=tmp_path, worst=0)


def test_records_serve_the_run_they_belong_to(tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path) -> None:
    def images(**options: Any) -> int:
        fake.images = 0
        evaluate([tiny_bundle], dataset, output=tmp_path / "out", worst=0, **options)
        return int(fake.images)

    assert images(limit=1) == 1
    assert images(limit=3) == 2
    assert images() == 1
    assert images(threads=2) == 0
    for options in ({"prompts": "point"}, {"multimask_output": True}, {"providers": [("half",)]}):
        assert (images(**options), images(**options)) == (SCENES, 0)
    image = dataset.with_name("1.png")
    image.write_bytes(image.read_bytes() + b" ")
    assert images() == SCENES


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


def test_zoom_is_where_the_outlines_differ() -> None:
    truth = rectangles((20, 20, 180, 180), hw=(200, 200))[0]
    predicted = truth.copy()
    predicted[150:180, 150:180] = False
    rows, columns = pictures.zoom_window(predicted, truth)
    assert rows.start < 165 < rows.stop
    assert columns.start < 165 < columns.stop
    assert rows.stop - rows.start == columns.stop - columns.start < 60


def test_subjects_have_names_of_their_own(tiny_bundle: Bundle, demo_bundle: Bundle) -> None:
    assert tiny_bundle.path.name == demo_bundle.path.name
    names = [subject.name for subject in open_subjects([tiny_bundle, demo_bundle.path], [("cpu",)])]
    assert names == ["/".join(bundle.path.parts[-2:]) for bundle in (tiny_bundle, demo_bundle)]
    with pytest.raises(ConfigError, match="each once"):
        open_subjects([tiny_bundle, tiny_bundle.path], [("cpu",)])


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


@pytest.fixture(scope="module")
def demo_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [draw_scene(seed) for seed in held_out_seeds(3)]
    return write_coco(tmp_path_factory.mktemp("scenes"), [(scene.image, scene.masks) for scene in scenes])


def test_command_on_demo_bundles(
    demo_bundle: Bundle, demo_bundle_fp16: Bundle, demo_scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(demo_scenes.read_text())
    content["annotations"].append({"id": 99, "image_id": 99, "segmentation": [], "iscrowd": 0})
    demo_scenes.with_name("dangling.json").write_text(json.dumps(content))
    command = ["eval", str(demo_bundle.path), str(demo_bundle_fp16.path), "--output", str(tmp_path / "out")]
    command += ["--dataset", str(demo_scenes.with_name("dangling.json")), "--worst", "1"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scores = [bundle["scores"] for bundle in report["bundles"]]
    assert [bundle["precision"] for bundle in report["bundles"]] == ["fp32", "fp16"]
    assert scores[0]["objects"] == scores[1]["objects"] == len(content["annotations"]) - 1
    assert scores[0]["mean_iou"] > 0.5
    assert abs(report["comparisons"][0]["mean_iou_difference"]) < 0.01
    assert report["skipped_counts"] == {"annotation of an unknown image": 1}
    assert "left out, annotation of an unknown image: 1 (image id 99: 99)" in out
    assert re.search(r"^written to .*: report.json, calibration.svg, .*worst-01.png$", out, re.MULTILINE)
    assert err.startswith("evaluate ...")
    assert main(command) == 0
    again, err = capsys.readouterr()
    assert again == out
    assert err == "6 of 6 images were measured in an earlier run\n"


def test_command_interrupted(
    tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.stop_after = 2
    command = ["eval", str(tiny_bundle.path), "--dataset", str(dataset), "--output", str(tmp_path / "out")]
    assert main(command) == 130
    out, err = capsys.readouterr()
    assert not out
    assert f"error: interrupted; the images that were finished are kept in {tmp_path / 'out'}" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["BUNDLE", "--dataset", "nowhere", "--output", "out"], "no such dataset"),
        (["nowhere", "--dataset", "DATASET", "--output", "out"], "no such folder"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--masks", "."], "--masks goes with a folder"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--images", "."], "image missing"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--images", "no"], "no such folder of images"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "out", "--providers", "gpu"], "unknown provider gpu"),
        (["BUNDLE", "--dataset", "DATASET", "--output", "data/1.png/x"], "Not a directory"),
    ],
)
def test_command_fails_with_one_message(
    tiny_bundle: Bundle,
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(dataset.parent.parent)
    names = {"BUNDLE": str(tiny_bundle.path), "DATASET": str(dataset)}
    assert main(["eval", *(names.get(word, word) for word in arguments)]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("error: ")
    assert complaint in err
    assert not Path("out/report.json").exists()
