"""SAM 2.1 and HQ-SAM 2: official names -> the names that SAM's tensors have, and what images do not need left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from samhq_runtime.errors import CheckpointError

_TRUNK = "image_encoder.trunk."
_OF_SAM2 = re.compile(
    r"image_encoder\.trunk\.|sam_mask_decoder\.|sam_prompt_encoder\.|memory_attention\.|memory_encoder\."
)
_VIDEO = re.compile(
    r"(memory_attention|memory_encoder|mask_downsample|obj_ptr_proj|obj_ptr_tpos_proj)\."
    r"|(maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial)$"
)
_ONLY_IN_2_1 = "no_obj_embed_spatial"
_RENAMED = (
    (re.compile(r"^sam_mask_decoder\.conv_s"), "image_encoder.neck.conv_s"),  # they depend on the image alone
    (re.compile(r"^no_mem_embed$"), "image_encoder.neck.no_mem_embed"),
    (re.compile(r"^sam_(mask_decoder|prompt_encoder)\."), r"\1."),
    (re.compile(r"\.((?:blocks|layers)\.\d+\.mlp)\.layers\.0\."), r".\1.lin1."),
    (re.compile(r"\.((?:blocks|layers)\.\d+\.mlp)\.layers\.1\."), r".\1.lin2."),
)


def is_sam2(state: Mapping[str, Tensor]) -> bool:
    """Whether these are names of a SAM 2, whole or in part."""
    return any(_OF_SAM2.match(name) for name in state)


def image_part(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """What segments images, below `image_encoder.`, `prompt_encoder.` and `mask_decoder.`; and the names of the rest.

    Raises:
        CheckpointError: weights of SAM 2 before 2.1, or without an image encoder.
    """
    if not any(name.startswith(_TRUNK) for name in state):
        raise CheckpointError(
            f"{path.name}: holds parts of SAM 2 without its image encoder ({len(state)} tensors); expected a whole "
            "model such as sam2.1_hiera_large.pt"
        )
    video = [name for name in state if _VIDEO.match(name)]
    if video and _ONLY_IN_2_1 not in state:
        raise CheckpointError(
            f"{path.name}: holds SAM 2, not SAM 2.1 ({_ONLY_IN_2_1} is missing among the {len(video)} tensors for "
            "videos); expected SAM 2.1 or HQ-SAM 2 weights such as sam2.1_hiera_large.pt"
        )
    return {_renamed(name): tensor for name, tensor in state.items() if not _VIDEO.match(name)}, video


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
