"""The official `SamPredictor` of the demo model's weights: for programs that are run beside ours."""

from __future__ import annotations

from typing import Any

from safetensors.torch import load_file

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import DEMO_CHECKPOINT

from .official import import_official
from .reference import official_sam


def official_predictor() -> Any:
    """The token fusion of the weights is done on them: upstream has none."""
    package = import_official()
    state = {name: tensor.float() for name, tensor in load_file(DEMO_CHECKPOINT).items()}
    hq_token, sam_token = "mask_decoder.hf_token.weight", "mask_decoder.mask_tokens.weight"
    state[hq_token] = state[hq_token] * state[sam_token][:1]
    sam = official_sam(package, VARIANTS["demo"])
    sam.load_state_dict(state)
    return package.SamPredictor(sam)
