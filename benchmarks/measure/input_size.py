"""What another input size costs: the demo model at several `--image-size`, on held-out scenes.

    python -m benchmarks input_size --docs

The demo model was trained with 256-pixel inputs. The scenes are drawn larger, so that a larger input does hold more
detail. Masks come from exported fp32 bundles through `Predictor`, one box prompt per object, and are compared at the
size of the image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.recording import Record
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.scenes.drawing import Scene, draw_scene
from samhq_exporter.training.evaluate import score
from samhq_runtime import Predictor
from samhq_runtime.files import sha256_of
from samhq_runtime.masks.box import box_of
from samhq_runtime.tables import format_table

_SCENE_SIZE = 512


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 192, 256, 384, 512])
    parser.add_argument("--scenes", type=int, default=40, help="held-out scenes, 4 to 5 objects each")


def measure(options: argparse.Namespace, record: Record) -> None:
    checkpoint_sha256 = sha256_of(DEMO_CHECKPOINT)
    record.require_setting(
        {"checkpoint_sha256": checkpoint_sha256, "scenes": options.scenes, "scene_size": _SCENE_SIZE}
    )
    scenes = [draw_scene(seed, _SCENE_SIZE) for seed in held_out_seeds(options.scenes)]
    rows = record.content.setdefault("sizes", {})
    for size in sorted(size for size in set(options.sizes) if str(size) not in rows):
        with tempfile.TemporaryDirectory() as folder:
            config = ExportConfig(output=Path(folder) / "bundle", image_size=size)
            rows[str(size)] = accuracy(export_bundle(config).path, scenes)
        print(size, rows[str(size)], file=sys.stderr)
        record.save()


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
    masks, _, _ = predictor.predict_batch(box=np.array([box_of(mask) for mask in truth]), multimask_output=False)
    return score(torch.from_numpy(masks), torch.from_numpy(truth)[:, None])[:, 0]


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    cells = [
        (size, f"{row['mean_iou']:.3f}", f"{row['mean_boundary_iou']:.3f}")
        for size, row in sorted(content["sizes"].items(), key=lambda item: int(item[0]))
    ]
    return {"input_size": format_table(("--image-size", "box mIoU", "box boundary IoU"), cells)}
