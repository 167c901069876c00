"""A folder of images, in this process: what is read, what is written, and what a second run does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle, Predictor
from samhq_runtime.errors import PromptError
from samhq_runtime.files import write_whole
from samhq_runtime.fleet import segmenter
from samhq_runtime.fleet.jobs import ImageJob
from samhq_runtime.fleet.prompt_files import read_jobs
from samhq_runtime.fleet.segmenter import Segmenter
from samhq_runtime.frames.image_files import read_image
from samhq_runtime.masks.rle import encode_rle
from tests.support.fleet_folders import BOX, fill_disk, make_folder, results, run


def test_masks_are_those_of_the_predictor(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, 6)
    assert run(tiny_bundle, folder) == 0
    assert "6 images segmented, 0 were done already" in capsys.readouterr().out
    found = results(folder / "out")
    assert sorted(found) == sorted(job.image for job in read_jobs(folder / "prompts.jsonl"))
    with Predictor(tiny_bundle) as predictor:
        predictor.set_image(read_image(folder / "images" / "b/1.png"))
        masks, iou_predictions, _ = predictor.predict(box=[BOX, BOX], multimask_output=False)
    assert found["b/1.png"]["masks"] == [[json.loads(encode_rle(mask)) for mask in group] for group in masks]
    np.testing.assert_allclose(found["b/1.png"]["iou_predictions"], iou_predictions)


def test_an_image_is_read_once(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, names = make_folder(tmp_path, 2), []

    def reading(path: Path, **options: Any) -> Any:
        names.append(path.name)
        return read_image(path, **options)

    monkeypatch.setattr(segmenter, "read_image", reading)
    assert run(tiny_bundle, folder, "--overlay", str(tmp_path / "seen")) == 0
    assert names == ["0.png", "1.png"]


def test_a_second_run_does_what_is_left(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, 5)
    assert run(tiny_bundle, folder) == 0
    (folder / "out" / "a" / "2.png.json").unlink()
    (folder / "out" / "b" / "3.png.json").write_text('{"image": "b/3.p')  # cut off by a full disk, say
    (folder / "out" / "b" / "1.png.json").write_text("3")
    kept = (folder / "out" / "a" / "4.png.json").stat().st_mtime_ns
    prompts = folder / "prompts.jsonl"
    assert prompts.read_text().count("[20, 30]") == 1  # of image 0, which is asked something else
    prompts.write_text(prompts.read_text().replace("[20, 30]", "[21, 30]"))
    assert run(tiny_bundle, folder) == 0
    assert "4 images segmented, 1 were done already" in capsys.readouterr().out
    assert (folder / "out" / "a" / "4.png.json").stat().st_mtime_ns == kept
    assert results(folder / "out")["a/0.png"]["prompts"]["point_coords"] == [[21, 30]]


def test_what_a_killed_writer_left_is_swept(tiny_bundle: Bundle, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 2)
    left: list[Path] = []
    (folder / "out" / "a").mkdir(parents=True)
    write_whole(folder / "out" / "a" / "0.png.json", lambda partial: left.append(partial) or partial.write_text("{"))
    (folder / "out" / "a" / "0.png.json").rename(left[0])
    assert run(tiny_bundle, folder) == 0
    assert sorted(results(folder / "out")) == ["a/0.png", "b/1.png"]  # asserts that nothing else is there


def test_a_full_disk_is_an_error_of_the_image(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path, 2)
    fill_disk(monkeypatch, "0.png.json")
    assert run(tiny_bundle, folder) == 1
    error = capsys.readouterr().err
    assert "a/0.png: its results cannot be written (No space left on device)" in error
    assert "1 of 2 images could not be segmented" in error
    assert sorted(results(folder / "out")) == ["b/1.png"]


def test_ctrl_c_keeps_what_is_done(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = make_folder(tmp_path, 3)
    real, done = Segmenter.run, []

    def run_one(self: Segmenter, job: ImageJob) -> str:
        if done:
            raise KeyboardInterrupt
        done.append(job.image)
        return real(self, job)

    monkeypatch.setattr(Segmenter, "run", run_one)
    assert run(tiny_bundle, folder) == 130
    out = folder / "out"
    assert f"interrupted; the images that were finished are kept in {out}" in capsys.readouterr().err
    assert list(results(out)) == done


def test_results_of_other_settings_do_not_mix(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, 1)
    assert run(tiny_bundle, folder) == 0
    assert run(tiny_bundle, folder, "--hq-token-only") == 1
    assert "has results of other settings" in capsys.readouterr().err
    (folder / "out" / "settings.json").write_text("{")
    assert run(tiny_bundle, folder) == 1
    assert "settings.json: damaged" in capsys.readouterr().err


def test_images_that_fail_are_named_and_the_others_done(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, 3)
    (folder / "images" / "b" / "1.png").write_bytes(b"no image")
    assert run(tiny_bundle, folder) == 1
    error = capsys.readouterr().err
    assert "b/1.png: " in error
    assert "1 of 3 images could not be segmented" in error
    assert "error" in results(folder / "out")["b/1.png"]
    Image.new("RGB", (30, 20)).save(folder / "images" / "b" / "1.png")
    assert run(tiny_bundle, folder) == 0
    assert "1 images segmented, 2 were done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prompts", "objects"),
    [
        ({"box": []}, 0),
        ({"point_coords": [], "point_labels": []}, 0),
        ({"box": BOX}, 1),
        ({"box": [BOX]}, 1),
        ({"point_coords": [[20, 30]], "point_labels": [1]}, 1),
        ({"box": None, "point_coords": [[20, 30]], "point_labels": [1]}, 1),
        ({"point_coords": [[[20, 30]], [[20, 30], [5, 5]]], "point_labels": [[1], [1, 0]]}, 2),
    ],
)
def test_any_number_of_objects_is_done(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, prompts: dict[str, Any], objects: int
) -> None:
    folder = make_folder(tmp_path, 1)
    (folder / "prompts.jsonl").write_text(json.dumps({"image": "a/0.png", **prompts}))
    assert run(tiny_bundle, folder) == 0
    found = results(folder / "out")["a/0.png"]
    assert (len(found["masks"]), len(found["iou_predictions"])) == (objects, objects)
    assert run(tiny_bundle, folder) == 0
    assert "0 images segmented, 1 were done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prompts", "complaint"),
    [
        ({"box": ["5", "6", "40", "50"]}, "box: not numbers"),
        ({"box": {"x": 5}}, "box: not numbers"),
        ({"box": None}, "no prompt"),
        ({"point_coords": [[[20, 30]], [[1, 2], [5]]], "point_labels": [[1], [1, 0]]}, "point_coords: not numbers"),
    ],
)
def test_prompts_that_are_refused(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, prompts: dict[str, Any], complaint: str
) -> None:
    folder = make_folder(tmp_path, 1)
    (folder / "prompts.jsonl").write_text(json.dumps({"image": "a/0.png", **prompts}))
    assert run(tiny_bundle, folder) == 1
    assert f"a/0.png: {complaint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no prompts"),
        ("{", "prompts.jsonl:1: not JSON"),
        ("\n[1]\n", "prompts.jsonl:2: expected an object with `image`"),
        ('{"image": "a.png"}', "got prompts \\[\\], expected some of point_coords"),
        ('{"image": "a.png", "boxes": [1, 2, 3, 4]}', "got prompts \\['boxes'\\]"),
        ('{"image": "../a.png", "box": [1, 2, 3, 4]}', "lies outside the folder"),
        ('{"image": "/etc/a.png", "box": [1, 2, 3, 4]}', "lies outside the folder"),
        ('{"image": "a.png", "box": [1, 2, 3, 4]}\n' * 2, "prompts.jsonl:2: a.png occurs twice"),
    ],
)
def test_prompts_files_that_are_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(PromptError, match=complaint):
        read_jobs(path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--box", "1,2,3,4"], "--box: for a single image"),
        (["--ray", "local", "--workers", "0"], "--workers and --worker-cpus: expected more than 0"),
        (["--worker-cpus", "1", "--worker-gpus", "0"], "--worker-cpus, --worker-gpus: for --ray"),
    ],
)
def test_options_that_do_not_go_together(
    tiny_bundle: Bundle, tmp_path: Path, capsys: Any, options: list[str], complaint: str
) -> None:
    assert run(tiny_bundle, make_folder(tmp_path, 1), *options) == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_provider_options_hold_for_folders(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, 1)
    assert run(tiny_bundle, folder, "--provider-option", "cuda.device_id=1") == 1
    assert "provider option of 'cuda': expected one of the providers cpu" in capsys.readouterr().err
