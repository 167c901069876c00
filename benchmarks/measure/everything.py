"""Every mask in a picture: `MaskGenerator` against the official generator, its masks and how much faster.

    python -m benchmarks everything --demo-bundle DEMO --bundle vit_b_fp32 --checkpoint sam_hq_vit_b.pth --docs

The trained demo model finds masks in six photographs, with three sets of parameters, in this process. Whole grids, of
it and of vit_b with seeded weights, are measured in a process a side, in turns, on one picture of 1200 x 1800. A model
that was not trained is never sure, so thresholds are medians of what the model says of a few points: half of the masks
pass each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contenders.everything import agreement
from benchmarks.contenders.process import Contender, Entry
from benchmarks.contenders.scene import Scene
from benchmarks.recording import Record, described
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_runtime.bench.stats import ratio_of_medians
from samhq_runtime.everything.generator import MaskGenerator
from samhq_runtime.files import write_text
from samhq_runtime.predictor import Predictor
from samhq_runtime.tables import format_table

_LEAST_IOU = 0.999
_CERTAIN = {"pred_iou_thresh": 0.4, "stability_score_thresh": 0.6}  # of the demo model, drawn scenes were its world
SETS: dict[str, dict[str, Any]] = {
    "grid": {"points_per_side": 8, **_CERTAIN},
    "crops": {"points_per_side": 6, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2, **_CERTAIN},
    "cleaned": {"points_per_side": 8, "min_mask_region_area": 100, "box_nms_thresh": 0.9, **_CERTAIN},
}
_PROBE = 4  # points a side


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--demo-bundle", type=Path, required=True, help="fp32 bundle of the demo model")
    parser.add_argument("--bundle", type=Path, help="fp32 bundle of seeded vit_b")
    parser.add_argument("--checkpoint", type=Path, help="official .pth of the same weights")
    parser.add_argument("--points-per-side", type=int, nargs="+", default=[32], help="of whole grids (default: 32)")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each grid")
    parser.add_argument("--threads", type=int, default=0, help="of both sides")


def measure(options: argparse.Namespace, record: Record) -> None:
    record.require_setting({"demo": described(options.demo_bundle), "threads": options.threads})
    _measure_demo(options, record)
    models = {"demo": (options.demo_bundle, DEMO_CHECKPOINT), "vit_b": (options.bundle, options.checkpoint)}
    known = record.content.setdefault("grids", {})
    for variant, (bundle, checkpoint) in models.items():
        for points in options.points_per_side if bundle and checkpoint else []:
            if (name := f"{variant}, {points} x {points}") not in known:
                known[name] = _duel(variant, bundle, checkpoint, points, options)
                record.save()


def _measure_demo(options: argparse.Namespace, record: Record) -> None:
    """Photograph by photograph, both sides in turns in this process."""
    import torch

    from tests.support.official import import_official, official_generator
    from tests.support.reference import official_demo_sam

    import_official()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    sam = official_demo_sam()
    rows = record.content.setdefault("photographs", {})
    with Predictor(options.demo_bundle, threads=options.threads) as predictor:
        for name, photograph in photographs().items():
            for of_set, chosen in SETS.items():
                if f"{name}, {of_set}" in rows:
                    continue
                given = {**chosen, "output_mode": "coco_rle"}
                ours, our_seconds = _timed(MaskGenerator(predictor, **given).generate, photograph)
                theirs, seconds = _timed(official_generator()(sam, **given).generate, photograph)
                rows[f"{name}, {of_set}"] = {**agreement(ours, theirs), "seconds": [our_seconds, seconds]}
                print(f"{name}, {of_set}: {rows[f'{name}, {of_set}']}", file=sys.stderr)
                record.save()


def photographs() -> dict[str, NDArray[np.uint8]]:
    """Six that come with scikit-image."""
    from skimage import data

    names = ("astronaut", "coffee", "cat", "rocket", "retina", "hubble_deep_field")
    return {name: np.ascontiguousarray(getattr(data, name)()[..., :3]) for name in names}


def _timed(generate: Callable[..., Any], image: NDArray[np.uint8]) -> tuple[Any, float]:
    start = time.perf_counter()
    return generate(image), time.perf_counter() - start


def _duel(variant: str, bundle: Path, checkpoint: Path, points: int, options: argparse.Namespace) -> dict[str, Any]:
    """A process a side, in turns."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scene = Scene(
            folder=folder,
            bundle=bundle.resolve(),
            checkpoint=checkpoint.resolve(),
            variant=variant,
            threads=options.threads,
        )
        scene.write()
        thresholds = _thresholds(scene)
        given = {"points_per_side": points, **thresholds, "output_mode": "coco_rle"}
        write_text(folder / "everything.json", json.dumps(given))
        job = f"everything:{points}"
        with (
            Contender(Entry("ours", "ours"), job, scene) as ours,
            Contender(Entry("official PyTorch", "official_torch"), job, scene) as theirs,
        ):
            for _ in range(options.rounds):
                for side in (ours, theirs):
                    side.run()
                    print(
                        f"{variant}, {points} points a side, {side.entry.name}: {side.seconds[-1]:.1f} s",
                        file=sys.stderr,
                    )
            files = [side.save(folder / f"{index}.npy") for index, side in enumerate((ours, theirs))]
        found = [np.load(file, allow_pickle=True) for file in files]
    return {
        **agreement(*found),
        "thresholds": thresholds,
        "seconds": [float(np.median(side.seconds)) for side in (ours, theirs)],
        "peak_bytes": [side.facts["peak_bytes"] for side in (ours, theirs)],
        "times_faster": ratio_of_medians(theirs.seconds, ours.seconds).value,
    }


def _thresholds(scene: Scene) -> dict[str, float]:
    """Medians over the masks of a few points."""
    with Predictor(scene.bundle, threads=scene.threads) as predictor:
        every: dict[str, Any] = {
            "pred_iou_thresh": 0,
            "stability_score_thresh": 0,
            "box_nms_thresh": 1,
            "output_mode": "coco_rle",
        }
        said = MaskGenerator(predictor, _PROBE, **every).generate(np.load(scene.picture))
    quality, stability = (
        np.nanmedian([record[key] for record in said]) for key in ("predicted_iou", "stability_score")
    )
    return {"pred_iou_thresh": float(quality.clip(0, 1)), "stability_score_thresh": float(stability)}


def breaches(content: Mapping[str, Any]) -> list[str]:
    """Masks that are not those of the official generator."""
    rows = {**content.get("photographs", {}), **content.get("grids", {})}
    return [
        f"{name}: {row['masks']} masks, {row['same_place']} in the same place, least IoU {row['least_iou']:.4f}"
        for name, row in rows.items()
        if len({*row["masks"], row["same_place"]}) > 1 or row["least_iou"] < _LEAST_IOU
    ]


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    return {"everything": _of_photographs(content), "everything grids": _of_grids(content)}


def _of_photographs(content: Mapping[str, Any]) -> str:
    rows = []
    for name, row in content["photographs"].items():
        ours, theirs = row["seconds"]
        rows.append((name, *_told(row), f"{theirs / ours:.1f}"))
    return format_table(("photograph, parameters", *_HEADER, "times faster"), rows)


def _of_grids(content: Mapping[str, Any]) -> str:
    rows = []
    for name, row in content["grids"].items():
        sides = [f"{s:.0f} s, {b / 1e9:.1f} GB" for s, b in zip(row["seconds"], row["peak_bytes"], strict=True)]
        rows.append((name, *_told(row), *sides, f"{row['times_faster']:.1f}"))
    return format_table(("grid", *_HEADER, "ours", "PyTorch", "times faster"), rows)


_HEADER = ("masks of ours, PyTorch", "in the same place", "least IoU", "largest difference of a score")


def _told(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    ours, theirs = row["masks"]
    return f"{ours}, {theirs}", str(row["same_place"]), f"{row['least_iou']:.5f}", f"{row['scores_off']:.5f}"
