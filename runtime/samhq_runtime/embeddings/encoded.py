"""What one image leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..session import Tensor


@dataclass(frozen=True)
class EncodedImage:
    """What one image leaves behind for its prompts: `image_embeddings`, the model's other features, and its size.

    Features stay on the GPU that made them, until the last reference goes; `numpy.asarray` copies one to the host.
    """

    features: Mapping[str, Tensor]
    original_hw: tuple[int, int]
