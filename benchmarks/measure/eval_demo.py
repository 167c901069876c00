"""The demo model on held-out scenes, precisions side by side, through `samhq eval`'s own code.

    python -m benchmarks eval_demo --docs --pictures docs

Draws the scenes at twice the model's input size (photographs are larger too), writes them as a COCO dataset, exports
the bundles and measures them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from benchmarks.recording import Record
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.scenes.drawing import draw_scene
from samhq_runtime.evaluation import Report, evaluate
from samhq_runtime.evaluation.dataset import Skip
from samhq_runtime.evaluation.report import BundleReport
from samhq_runtime.evaluation.summary import Bin, Comparison, Group, IouCalibration, Scores
from samhq_runtime.files import sha256_of

_PRECISIONS = ("fp32", "fp16", "int8")
_PROMPTS = ("box", "point")
_SCENE_SIZE = 512  # pixels: the larger objects are "large" by COCO's limits
# Pictures of the docs: their names there, and in the run with box prompts.
_PICTURES = {"evaluation_worst.png": "worst-01.png", "evaluation_calibration.svg": "calibration.svg"}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes (default: 60)")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="where the two pictures of the docs go")


def measure(options: argparse.Namespace, record: Record) -> None:
    """Both kinds of prompts at once, on one set of bundles."""
    record.require_setting(
        {"checkpoint_sha256": sha256_of(DEMO_CHECKPOINT), "scenes": options.scenes, "scene_size": _SCENE_SIZE}
    )
    if set(_PROMPTS) <= record.content.keys():
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        annotations = write_dataset(work / "scenes", options.scenes)
        bundles = [_export(precision, work / precision) for precision in _PRECISIONS]
        for prompts in _PROMPTS:
            report = evaluate(bundles, annotations, prompts=prompts, output=work / prompts, worst=1)
            record.content[prompts] = figures(report)
        record.save()
        for name, source in _PICTURES.items() if options.pictures else ():
            shutil.copyfile(work / "box" / source, options.pictures / name)


def write_dataset(folder: Path, scenes: int) -> Path:
    """PNG images and `instances.json` with the visible part of every object as compressed run lengths."""
    folder.mkdir()
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    for image_id, seed in enumerate(held_out_seeds(scenes), 1):
        scene = draw_scene(seed, _SCENE_SIZE)
        name = f"scene-{image_id:03}.png"
        Image.fromarray(scene.image).save(folder / name)
        height, width = scene.image.shape[:2]
        content["images"].append({"id": image_id, "file_name": name, "height": height, "width": width})
        for mask in scene.masks:
            content["annotations"].append(_annotation(len(content["annotations"]) + 1, image_id, mask))
    content["categories"].append({"id": 1, "name": "object"})
    (folder / "instances.json").write_text(json.dumps(content))
    return folder / "instances.json"


def _annotation(number: int, image_id: int, mask: Any) -> dict[str, Any]:
    runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "area": int(coco_mask.area(runs)),
        "bbox": [float(value) for value in coco_mask.toBbox(runs)],
        "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
    }


def _export(precision: str, output: Path) -> Path:
    export_bundle(ExportConfig(checkpoint=DEMO_CHECKPOINT, output=output, precision=precision))
    return output


def figures(report: Report) -> dict[str, Any]:
    """The report without the paths of this run."""
    content = json.loads(report.to_json())
    for entry in (content["dataset"], *content["bundles"]):
        del entry["path"]
    return content


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    parts = [f"`--prompts {prompts}`:\n\n{_report(content[prompts]).to_text()}" for prompts in _PROMPTS]
    return {"eval_demo": "\n\n".join(parts)}


def _report(content: Mapping[str, Any]) -> Report:
    """What `figures` made JSON of; bundles have no path."""
    return Report(
        dataset=content["dataset"],
        setting=content["setting"],
        bundles=tuple(BundleReport(**{**b, "path": "", "scores": _scores(b["scores"])}) for b in content["bundles"]),
        comparisons=tuple(Comparison(**comparison) for comparison in content["comparisons"]),
        skipped=tuple(Skip(**skip) for skip in content["skipped"]),
        runtime_version=content["runtime_version"],
    )


def _scores(content: Mapping[str, Any]) -> Scores:
    calibration = content["calibration"]
    parts = {
        "by_size": {size: Group(**group) for size, group in content["by_size"].items()},
        "calibration": IouCalibration(**{**calibration, "bins": tuple(Bin(**b) for b in calibration["bins"])}),
    }
    return Scores(**{**content, **parts})
