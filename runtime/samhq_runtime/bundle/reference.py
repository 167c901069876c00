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
from ..frames.prompts import Prompts, no_mask
from ..masks.choice import every_token_mask

REFERENCE_NAME = "reference.npz"
PROMPTS = 2  # recorded of each kind
_FEATURE_SAMPLES = 4096
_LOGITS_SIDE = 64


@dataclass(frozen=True)
class RecordedPrompts:
    """Prompts in the model frame, (B,N,2) and (B,N), and the sampled outputs of the decoder for every token mask."""

    point_coords: Array
    point_labels: Array
    outputs: Mapping[str, Array]

    def feeds(self, sizes: ModelSizes) -> dict[str, Array]:
        """All that the decoder takes besides an image's features; no mask prompt."""
        prompts = Prompts(self.point_coords, self.point_labels, no_mask(sizes.low_res_size), has_mask_input=False)
        return prompts.feeds(every_token_mask(sizes.token_masks))


@dataclass(frozen=True)
class Reference:
    """The image (H,W,3) uint8, its sampled features by output name, and what was recorded of each kind of prompts."""

    image: NDArray[np.uint8]
    features: Mapping[str, Array]
    prompts: Sequence[RecordedPrompts]


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
    for index, recorded in enumerate(reference.prompts):
        arrays |= {f"{index}/point_coords": recorded.point_coords, f"{index}/point_labels": recorded.point_labels}
        arrays |= {f"{index}/{name}": array for name, array in recorded.outputs.items()}
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
        prompts: list[RecordedPrompts] = []
        while f"{len(prompts)}/point_coords" in arrays:
            found = {n.split("/")[1]: a for n, a in arrays.items() if n.startswith(f"{len(prompts)}/")}
            prompts.append(RecordedPrompts(found.pop("point_coords"), found.pop("point_labels"), found))
        return Reference(arrays["image"], features, prompts)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as e:
        raise BundleError(f"{path}: cannot be read ({e}); export the bundle again") from e
