"""Results that the official code of SAM 2.1 and HQ-SAM 2 computed with seeded weights, and what they were computed of.

`golden_sam2.npz` is of the PyPI package `sam2` 1.1.0; `golden_hq_sam2.npz`, and `golden_hq_sam2_large.npz` of the
released size, of `SysCV/sam-hq` at fb181f8, folder `sam-hq2`. Arrays whose name ends in "@" are samples at
`_positions`, those that end in "#" packed masks, others whole.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from samhq_runtime.contract import Array

from .sam2_weights import seeded_state
from .shared import shared

_DATA = Path(__file__).parents[1] / "data"

# Our names of what leaves the encoder, and those in the files.
FEATURES = {"image_embeddings": "image_embed", "high_res_feats_0": "feat_s0", "high_res_feats_1": "feat_s1"}
OPTIONS: dict[str, dict[str, bool]] = {
    "single": {"multimask_output": False},
    "multi": {"multimask_output": True},
    "hq_single": {"multimask_output": False, "hq_token_only": True},
    "hq_multi": {"multimask_output": True, "hq_token_only": True},
}


class Golden:
    """One file of results; names are "<image>/<tensor>" and "<image>/<case>/<options>/<result>"."""

    def __init__(self, model: str) -> None:
        with np.load(_DATA / f"golden_{model}.npz") as file:
            self.arrays = {name: file[name] for name in file.files}
        self._meta = json.loads(str(self.arrays.pop("meta")))
        self.keys: dict[str, list[int]] = json.loads(str(self.arrays.pop("keys")))  # official names and shapes

    def pair(self, name: str, got: Array) -> tuple[Array, Array]:
        """(golden, got), both sampled if the file holds samples."""
        assert got.shape == tuple(self._meta["shapes"][name])
        if name in self.arrays:
            return self.arrays[name], got
        return self.arrays[f"{name}@"], got.reshape(-1)[_positions(name, got.size, self._meta["counts"][name])]

    def masks(self, name: str) -> NDArray[np.bool_]:
        shape = self._meta["shapes"][f"{name}#"]
        return np.unpackbits(self.arrays[f"{name}#"], count=int(np.prod(shape))).reshape(shape).astype(bool)


def golden_checkpoint(factory: pytest.TempPathFactory, model: str) -> Path:
    """The weights of a model as they are released: all of them, those for videos too, under the key `model`."""

    def make(folder: Path) -> None:
        state = {name: torch.from_numpy(value) for name, value in seeded_state(Golden(model).keys).items()}
        torch.save({"model": state}, folder / f"{model}.pt")

    return shared(factory, f"checkpoint-{model}", make) / f"{model}.pt"


def images() -> dict[str, NDArray[np.uint8]]:
    """(H,W,3) uint8 RGB."""
    from skimage import data

    return {"coffee": data.coffee(), "cat": np.ascontiguousarray(data.cat()[:300, 100:300])}


def cases(image: NDArray[np.uint8]) -> dict[str, dict[str, Any]]:
    """Arguments of `predict`; `mask_input` "disc" is `disc`, "point" what the case of that name left."""
    height, width = image.shape[:2]

    def at(*pairs: tuple[float, float]) -> list[list[float]]:
        return [[round(x * width, 1), round(y * height, 1)] for x, y in pairs]

    def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
        return [round(value, 1) for value in (x0 * width, y0 * height, x1 * width, y1 * height)]

    several = {"point_coords": at((0.26, 0.4), (0.67, 0.53), (0.03, 0.87)), "point_labels": [1, 1, 0]}
    main = box(0.13, 0.16, 0.81, 0.73)
    return {
        "point": {"point_coords": at((0.46, 0.5)), "point_labels": [1]},
        "points": several,
        "box": {"box": main},
        "box_points": {"box": main, **several},
        "second_round": {**several, "mask_input": "point"},
        "box_disc": {"box": main, "mask_input": "disc"},
        "disc_only": {"mask_input": "disc"},
        "three_boxes": {"box": [main, box(0.35, 0.07, 0.58, 0.46), box(0.04, 0.49, 0.97, 0.99)]},
        "two_objects": {
            "point_coords": [at((0.15, 0.28), (0.79, 0.56)), at((0.66, 0.15), (0.12, 0.09))],
            "point_labels": [[1, 0], [1, -1]],
        },
    }


def disc(side: int) -> NDArray[np.float32]:
    """(1,side,side) logits: a mask prompt that needs no earlier prediction."""
    centre = (np.arange(side, dtype=np.float64) + 0.5) / side
    distance = np.hypot(centre[None, :] - 0.5, centre[:, None] - 0.45)
    return (20 * (0.35 - distance)).astype(np.float32)[None]


def _positions(name: str, size: int, count: int) -> NDArray[np.uint64]:
    """Sorted flat positions, the same ones for this name and size everywhere."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(4 * count)
    picked = np.unique(raw % np.uint64(size))
    return picked if len(picked) <= count else picked[:: -(-len(picked) // count)]
