"""The demo model on held-out scenes, precisions side by side, through `samhq eval`'s own code; tables of the docs.

    python -m benchmarks eval_demo --output benchmarks/results/eval_demo.json --docs docs/evaluation.md

Draws the scenes at twice the model's input size (photographs are larger too), writes them as a COCO dataset, exports
the bundles and measures them; some minutes on two cores.
With --docs the tables between that file's markers and its two pictures are replaced.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from benchmarks.pages import require_markers, write_between_markers
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.demo.evaluate import held_out_seeds
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.scenes.drawing import draw_scene
from samhq_runtime.evaluation import Report, evaluate
from samhq_runtime.files import sha256_of

_PRECISIONS = ("fp32", "fp16", "int8")
_PROMPTS = ("box", "point")
_SCENE_SIZE = 512  # pixels: the larger objects are "large" by COCO's limits
_SECTION = "eval_demo"
# Pictures of the docs: the one in the docs folder, the one of the run with box prompts.
_PICTURES = {"evaluation_worst.png": "worst-01.png", "evaluation_calibration.svg": "calibration.svg"}


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    if options.docs:
        require_markers(options.docs, _SECTION)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        annotations = write_dataset(work / "scenes", options.scenes)
        bundles = [_export(precision, work / precision) for precision in _PRECISIONS]
        reports = {
            prompts: evaluate(bundles, annotations, prompts=prompts, output=work / prompts, worst=1)
            for prompts in _PROMPTS
        }
        if options.docs:
            _update_docs(options.docs, reports, work / "box")
    if options.output:
        setting = {
            "checkpoint_sha256": sha256_of(DEMO_CHECKPOINT),
            "scenes": options.scenes,
            "scene_size": _SCENE_SIZE,
        }
        results = {**setting, **{name: figures(report) for name, report in reports.items()}}
        options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(tables(reports))


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


def tables(reports: dict[str, Report]) -> str:
    return "\n\n".join(f"`--prompts {prompts}`:\n\n{report.to_text()}" for prompts, report in reports.items())


def _update_docs(docs: Path, reports: dict[str, Report], run: Path) -> None:
    write_between_markers(docs, _SECTION, tables(reports))
    for name, source in _PICTURES.items():
        shutil.copyfile(run / source, docs.parent / name)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60, help="held-out scenes (default: 60)")
    parser.add_argument("--output", type=Path, metavar="JSON", help="where the figures go")
    parser.add_argument("--docs", type=Path, metavar="MD", help="the page whose tables are to be replaced")
    return parser.parse_args(argv)
