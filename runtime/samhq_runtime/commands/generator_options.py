"""The options of `MaskGenerator` on the command line, for the commands that find everything."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Array
from ..errors import ConfigError
from ..everything.generator import MaskGenerator
from ..flags import flag_of

NO_MATTER = ("points_per_batch",)  # for the masks
DEFAULTS = {field.name: field.default for field in fields(MaskGenerator)}
_HELP = {
    "points_per_side": "points along each side of the image",
    "points_per_batch": "points decoded at once",
    "pred_iou_thresh": "keep masks whose predicted IoU is above it",
    "stability_score_thresh": "keep masks whose stability score is at least this",
    "stability_score_offset": "how far the threshold is moved for the stability score",
    "box_nms_thresh": "box IoU above which a mask is a duplicate of a better one",
    "crop_n_layers": "segment crops of the image too: 2 x 2 in the first layer, 4 x 4 in the second...",
    "crop_nms_thresh": "as --box-nms-thresh, between crops",
    "crop_overlap_ratio": "how much crops overlap, of the image's shorter side",
    "crop_n_points_downscale_factor": "in layer n the points of a side are divided by this to the n",
    "min_mask_region_area": "remove islands and holes of fewer pixels",
}


def add_generator_options(command: argparse.ArgumentParser) -> None:
    """Those of `MaskGenerator`, by its names and with its defaults."""
    group = command.add_argument_group("masks")
    for name, text in _HELP.items():
        default: Any = DEFAULTS[name]
        metavar = "N" if isinstance(default, int) else "X"
        group.add_argument(flag_of(name), type=type(default), metavar=metavar, help=f"{text} (default: {default:.4g})")
    group.add_argument(
        "--point-grids",
        type=Path,
        nargs="+",
        metavar="NPY",
        help="points instead of a regular grid, (N, 2) x, y from 0 to 1: of the image, then of each layer of crops",
    )


def generator_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `MaskGenerator` takes; its defaults are left to it."""
    given = {name: getattr(options, name) for name in _HELP if getattr(options, name) is not None}
    if options.point_grids:
        given["point_grids"] = [_read_grid(path) for path in options.point_grids]
        given.setdefault("points_per_side", None)
    return given


def _read_grid(path: Path) -> Array:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as e:
        raise ConfigError(f"--point-grids {path}: cannot be read ({e}); expected what numpy.save writes") from e
