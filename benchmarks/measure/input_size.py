"""What another input size costs: the demo model at several `--image-size`, on held-out scenes; table for the docs.

    python -m benchmarks input_size --output benchmarks/results/input_size.json --docs docs/checkpoints.md

The demo model was trained with 256-pixel inputs. The scenes are drawn larger, so that a larger input does hold more
detail. Masks come from exported fp32 bundles through `Predictor`, one box prompt per object, and are compared at the
size of the image. Rows of the same weights and scenes that the output file has are kept, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.pages import require_markers, write_between_markers
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.demo.evaluate import held_out_seeds, score
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.scenes.drawing import Scene, draw_scene
from samhq_runtime import Predictor
from samhq_runtime.files import sha256_of
from samhq_runtime.masks.box import box_of
from samhq_runtime.tables import format_table

_SCENE_SIZE = 512
_SECTION = "input_size"


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    scenes = [draw_scene(seed, _SCENE_SIZE) for seed in held_out_seeds(options.scenes)]
    if options.docs:
        require_markers(options.docs, _SECTION)
    setting = {
        "checkpoint_sha256": sha256_of(DEMO_CHECKPOINT),
        "scenes": options.scenes,
        "scene_size": _SCENE_SIZE,
    }
    rows = known_rows(options.output, setting)
    for image_size in sorted(set(options.sizes) - rows.keys()):
        with tempfile.TemporaryDirectory() as folder:
            config = ExportConfig(output=Path(folder) / "bundle", image_size=image_size)
            rows[image_size] = accuracy(export_bundle(config).path, scenes)
        print(image_size, rows[image_size], file=sys.stderr)
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps({**setting, "sizes": rows}, indent=2) + "\n")
    table = report(rows)
    if options.docs:
        write_between_markers(options.docs, _SECTION, table)
    print(table)


def known_rows(path: Path | None, setting: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The sizes that an earlier run has measured, if it was of the same setting."""
    content = json.loads(path.read_text()) if path and path.exists() else {}
    same = all(content.get(key) == value for key, value in setting.items())
    return {int(size): row for size, row in content["sizes"].items()} if same else {}


def accuracy(bundle: Path, scenes: Sequence[Scene]) -> dict[str, float | int]:
    """Mean IoU and mean boundary IoU over all objects of `scenes`."""
    with Predictor(bundle) as predictor:
        scores = torch.cat([_scores(predictor, scene) for scene in scenes])
    mean_iou, mean_boundary_iou = scores.mean(dim=0).tolist()
    return {
        "objects": len(scores),
        "mean_iou": round(mean_iou, 4),
        "mean_boundary_iou": round(mean_boundary_iou, 4),
    }


def _scores(predictor: Predictor, scene: Scene) -> Tensor:
    """(M,2): IoU and boundary IoU of the objects of one scene."""
    truth = np.asarray(scene.masks)
    predictor.set_image(scene.image)
    masks, _, _ = predictor.predict(box=np.array([box_of(mask) for mask in truth]), multimask_output=False)
    return score(torch.from_numpy(masks), torch.from_numpy(truth)[:, None])[:, 0]


def report(rows: Mapping[int, Mapping[str, Any]]) -> str:
    cells = [
        (str(size), f"{row['mean_iou']:.3f}", f"{row['mean_boundary_iou']:.3f}") for size, row in sorted(rows.items())
    ]
    return format_table(("--image-size", "box mIoU", "box boundary IoU"), cells)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 192, 256, 384, 512])
    parser.add_argument("--scenes", type=int, default=40, help="held-out scenes, 4 to 5 objects each")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--docs", type=Path, metavar="MD", help="the page whose table is to be replaced")
    return parser.parse_args(argv)
