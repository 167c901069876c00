"""Weights of some modules, such as the mask decoder that SAM-HQ's training writes, over those of a whole model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from samhq_runtime.errors import CheckpointError, ConfigError

from .stored import StoredWeights, read_weights

_ENCODER = "image_encoder."
_PARTS = ("mask_decoder.", "prompt_encoder.")


def merged(stored: StoredWeights, path: Path, base: Path | None) -> tuple[Mapping[str, Tensor], StoredWeights | None]:
    """The weights of `stored`, over those of `base` if they are a part; and what `base` holds.

    Raises:
        CheckpointError: a part without base, or `base` is unreadable or a part itself.
        ConfigError: `base` is given for whole weights.
    """
    if not is_part(stored.state):
        if base is not None:
            raise ConfigError(f"--base {base.name}: {path.name} holds a whole model, which needs no base; drop it")
        return stored.state, None
    if base is None:
        raise CheckpointError(
            f"{path.name}: holds a mask decoder without its image encoder ({len(stored.state)} tensors), as SAM-HQ's "
            "training writes epoch_N.pth; give samhq-export the weights it was trained on: --base sam_vit_l_0b3195.pth"
        )
    whole = read_weights(base)
    if is_part(whole.state):
        raise CheckpointError(f"{base.name}: has no image encoder either; expected the whole SAM for --base")
    return {**whole.state, **stored.state}, whole


def is_part(state: Mapping[str, Tensor]) -> bool:
    """Whether these official names are of a SAM's modules, but not of its image encoder."""
    return any(key.startswith(_PARTS) for key in state) and not any(key.startswith(_ENCODER) for key in state)
