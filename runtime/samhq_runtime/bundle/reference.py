"""What PyTorch computed at export: one image, a few prompts and its results at some places, in the bundle.

Engines are held against it on the machine where they run, which has no PyTorch. Results are samples, to stay small:
features and logits on a coarse grid, predicted IoU whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..contract import Array, ModelSizes
from ..errors import BundleError

REFERENCE_NAME = "reference.npz"
PROMPTS = 2  # recorded of each case
_FEATURE_SAMPLES = 4096
_LOGITS_SIDE = 64


@dataclass(frozen=True)
class Case:
    """Prompts in the model frame, (B,N,2) and (B,N), and the sampled outputs of the decoder for every token mask."""

    point_coords: Array
    point_labels: Array
    outputs: Mapping[str, Array]

    def feeds(self, sizes: ModelSizes) -> dict[str, Array]:
        """All that the decoder takes besides an image's features; no mask prompt."""
        side = sizes.low_res_size
        return {
            "point_coords": self.point_coords,
            "point_labels": self.point_labels,
            "mask_input": np.zeros((1, 1, side, side), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "image_index": np.zeros(len(self.point_coords), np.int64),
            "mask_weights": np.eye(sizes.token_masks, dtype=np.float32),
        }


@dataclass(frozen=True)
class Reference:
    """The image (H,W,3) uint8, its sampled features by output name, and the cases."""

    image: NDArray[np.uint8]
    features: Mapping[str, Array]
    cases: Sequence[Case]


def sample(name: str, array: Array) -> Array:
    """The part of an output that is recorded: logits on a grid, features at regular places, anything else whole."""
    if name == "low_res_logits":
        step = max(1, array.shape[-1] // _LOGITS_SIDE)
        return array[..., step // 2 :: step, step // 2 :: step]
    if name == "iou_predictions":
        return array
    return array.reshape(-1)[:: max(1, array.size // _FEATURE_SAMPLES)]


def save_reference(path: Path, reference: Reference) -> None:
    """Write the file; it is the same for the same content."""
    arrays: dict[str, Any] = {"image": reference.image}
    arrays |= {f"features/{name}": array for name, array in reference.features.items()}
    for index, case in enumerate(reference.cases):
        arrays |= {f"{index}/point_coords": case.point_coords, f"{index}/point_labels": case.point_labels}
        arrays |= {f"{index}/{name}": array for name, array in case.outputs.items()}
    np.savez_compressed(path, **arrays)


def load_reference(bundle: Path) -> Reference | None:
    """The recording of a bundle, None if it is older than recordings.

    Raises:
        BundleError: the file cannot be read.
    """
    path = bundle / REFERENCE_NAME
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        features = {name.split("/")[1]: array for name, array in arrays.items() if name.startswith("features/")}
        cases: list[Case] = []
        while f"{len(cases)}/point_coords" in arrays:
            of_case = {n.split("/")[1]: a for n, a in arrays.items() if n.startswith(f"{len(cases)}/")}
            cases.append(Case(of_case.pop("point_coords"), of_case.pop("point_labels"), of_case))
        return Reference(arrays["image"], features, cases)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as e:
        raise BundleError(f"{path}: cannot be read ({e}); export the bundle again") from e
