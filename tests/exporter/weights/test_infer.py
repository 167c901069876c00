"""Sizes read from the shapes of tensors, and shapes that no model has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.model import Sam, Sam2
from samhq_exporter.weights.checkpoint import (
    infer_architecture,
    load_checkpoint,
    to_official_keys,
)
from samhq_runtime.errors import CheckpointError
from tests.support.models import State

MISSHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "scalar": lambda t: t.flatten()[0],
    "flat": lambda t: t.flatten(),
    "empty": lambda t: t[:0],
    "one row more": lambda t: torch.cat([t, t[:1]]),
    "one axis more": lambda t: t[None],
}


# The tensors whose shapes the architecture is read from, and one other.
SIZE_KEYS = (
    "image_encoder.patch_embed.proj.weight",
    "image_encoder.pos_embed",
    "image_encoder.blocks.0.attn.rel_pos_h",
    "image_encoder.blocks.1.attn.rel_pos_h",
    "image_encoder.blocks.0.mlp.lin1.weight",
    "mask_decoder.mask_tokens.weight",
    "mask_decoder.transformer.layers.0.mlp.lin1.weight",
    "mask_decoder.iou_prediction_head.layers.0.weight",
    "prompt_encoder.mask_downscaling.3.weight",
    "mask_decoder.hf_token.weight",
)


@pytest.mark.parametrize("kind", MISSHAPES)
@pytest.mark.parametrize("key", SIZE_KEYS)
def test_tensor_of_another_shape(state: State, tmp_path: Path, key: str, kind: str) -> None:
    path = tmp_path / "m.pth"
    torch.save({**state, key: MISSHAPES[kind](state[key])}, path)
    with pytest.raises(CheckpointError, match=r"m\.pth"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", [name for name, row in VARIANTS.items() if not row.stages])
def test_every_variant_is_recognised_by_shapes_alone(name: str) -> None:
    with torch.device("meta"):
        model = (Sam2 if VARIANTS[name].hiera else Sam)(VARIANTS[name])
        state = to_official_keys(model.state_dict())
    assert all(value.is_meta for value in state.values())
    assert infer_architecture(state, Path("m.pth")) == VARIANTS[name]
