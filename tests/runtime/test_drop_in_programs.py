"""Whole programs as people have them, run with the official package and with ours: only the import differs.

They make the calls of SAM-HQ's demo, of SAM's predictor notebook and of its ONNX notebook, in their order.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle
from tests.support.official import import_official
from tests.support.reference import photographs

OFFICIAL = "from tests.support.official_demo import official_predictor\npredictor = official_predictor()"
OURS = "from samhq_runtime import Predictor\npredictor = Predictor(sys.argv[3], threads=1)"

HEAD = """
import sys
import numpy as np
import torch
from PIL import Image
{imports}

kept = {{}}

def keep(name, *arrays):
    for number, array in enumerate(arrays):
        kept[f"{{name}} {{number}}"] = array

image = np.array(Image.open(sys.argv[1]).convert("RGB"))
"""

DEMO = """
for hq_token_only in (False, True):
    for i in range(5):
        predictor.set_image(image)
        input_point, input_label, boxes = None, None, None
        if i == 0:
            input_box = np.array([[90, 60, 480, 340]])
        elif i == 1:
            input_box, input_point, input_label = None, np.array([[240, 200], [400, 150]]), np.ones(2)
        elif i == 2:
            input_box, input_point, input_label = np.array([90, 60, 480, 340]), np.array([[240, 200]]), np.array([0])
        elif i == 3:
            input_box = torch.tensor([[90, 60, 480, 340], [10, 10, 200, 250]], device=predictor.device)
            boxes = predictor.transform.apply_boxes_torch(input_box, image.shape[:2])
        else:
            input_box, input_point, input_label = None, np.array([[240, 200]]), np.array([1])
        if boxes is None:
            masks, scores, logits = predictor.predict(
                point_coords=input_point, point_labels=input_label, box=input_box,
                multimask_output=False, hq_token_only=hq_token_only,
            )
        else:
            masks, scores, logits = predictor.predict_torch(
                point_coords=None, point_labels=None, boxes=boxes, multimask_output=False, hq_token_only=hq_token_only,
            )
            masks, scores = masks.squeeze(1).cpu().numpy(), scores.squeeze(1).cpu().numpy()
            logits, input_box = logits.cpu().numpy(), input_box.cpu().numpy()
        for mask, score in zip(masks, scores):
            height, width = mask.shape[-2:]
            colour = np.array([30 / 255, 144 / 255, 255 / 255, 0.6])
            drawn = mask.reshape(height, width, 1) * colour.reshape(1, 1, -1)
            assert drawn.shape == (height, width, 4) and 0 < score < 2, f"{score:.3f}"
        keep(f"{hq_token_only} {i}", masks, scores, logits)
"""

NOTEBOOK = """
predictor.set_image(image)
assert predictor.is_image_set and predictor.original_size == image.shape[:2]
keep("embedding", np.asarray(predictor.get_image_embedding()))
input_point, input_label = np.array([[240, 200]]), np.array([1])
masks, scores, logits = predictor.predict(point_coords=input_point, point_labels=input_label, multimask_output=True)
keep("three or best", masks, scores, logits)
mask_input = logits[np.argmax(scores), :, :]
input_point, input_label = np.array([[240, 200], [200, 220]]), np.array([1, 1])
masks, _, _ = predictor.predict(
    point_coords=input_point, point_labels=input_label, mask_input=mask_input[None, :, :], multimask_output=False,
)
keep("refined", masks)
input_label = np.array([1, 0])
masks, _, _ = predictor.predict(
    point_coords=input_point, point_labels=input_label, mask_input=mask_input[None, :, :], multimask_output=False,
)
keep("background", masks)
input_box = np.array([90, 60, 480, 340])
masks, _, _ = predictor.predict(point_coords=None, point_labels=None, box=input_box[None, :], multimask_output=False)
keep("box", masks)
masks, _, _ = predictor.predict(
    point_coords=input_point, point_labels=input_label, box=input_box, multimask_output=False
)
keep("box and points", masks)
input_boxes = torch.tensor([[90, 60, 480, 340], [10, 10, 200, 250], [300, 100, 590, 390]], device=predictor.device)
transformed_boxes = predictor.transform.apply_boxes_torch(input_boxes, image.shape[:2])
masks, _, _ = predictor.predict_torch(
    point_coords=None, point_labels=None, boxes=transformed_boxes, multimask_output=False,
)
assert masks.shape == (3, 1, *image.shape[:2])
keep("boxes", *[mask.cpu().numpy() for mask in masks])
small = torch.as_tensor(predictor.transform.apply_image(image), device=predictor.device)
predictor.reset_image()
predictor.set_torch_image(small.permute(2, 0, 1).contiguous()[None, :, :, :], image.shape[:2])
onnx_coord = np.concatenate([input_point, np.array([[0.0, 0.0]])], axis=0)[None, :, :]
onnx_coord = predictor.transform.apply_coords(onnx_coord, image.shape[:2]).astype(np.float32)
keep("moved", onnx_coord)
"""
TAIL = "\nnp.savez(sys.argv[2], **kept)\n"


def results(imports: str, folder: Path, run: Callable[[list[str]], object], *arguments: object) -> Mapping[str, Any]:
    """What the programs keep."""
    script, output = folder / "program.py", folder / "kept.npz"
    script.write_text(HEAD.format(imports=imports) + DEMO + NOTEBOOK + TAIL)
    run([str(script), str(folder / "image.png"), str(output), *map(str, arguments)])
    return dict(np.load(output))


def as_process(argv: list[str]) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, timeout=240, check=False, env=env)
    assert done.returncode == 0, done.stderr


def test_programs_whose_import_was_changed(
    demo_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_official()
    Image.fromarray(photographs()["landscape 400 x 600"]).save(tmp_path / "image.png")

    def here(argv: list[str]) -> None:  # where torch and the official package are imported already
        monkeypatch.setattr(sys, "argv", argv)
        runpy.run_path(argv[0], run_name="__main__")

    expected = results(OFFICIAL, tmp_path, here)
    got = results(OURS, tmp_path, as_process, demo_bundle.path)
    assert got.keys() == expected.keys()
    for name, theirs in expected.items():
        assert (got[name].shape, got[name].dtype) == (theirs.shape, theirs.dtype), name
        if theirs.dtype == bool:
            assert np.mean(got[name] == theirs) >= 0.9999, name
        else:
            assert np.abs(got[name] - theirs).max() <= 1e-3 * max(float(np.ptp(theirs)), 1.0), name
