"""`SamHQModel` of transformers, with its default attention (SDPA); random weights of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tests.support.official import declare_torchvision_operators  # tests/support/official.py

declare_torchvision_operators()
from transformers import SamHQConfig, SamHQModel  # noqa: E402

from .scene import PICTURE_HW, Scene  # noqa: E402

_SIDE = 1024


def load(contender: str, job: str, scene: Scene) -> Callable[[], Any]:
    kind, _, count = job.partition(":")
    if scene.threads:
        torch.set_num_threads(scene.threads)
    torch.manual_seed(0)
    model = SamHQModel(SamHQConfig()).requires_grad_(False)
    model.train(False)
    input_image = torch.from_numpy(np.load(scene.input_image))
    if kind == "encoder":
        return torch.inference_mode()(lambda: model.get_image_embeddings(input_image)[0].numpy())
    with torch.inference_mode():
        embeddings, early = model.get_image_embeddings(input_image)
    boxes = torch.from_numpy(scene.boxes(int(count)) * (_SIDE / max(PICTURE_HW)))[None]
    return torch.inference_mode()(lambda: _masks(model, embeddings, early, boxes))


def _masks(model: Any, embeddings: torch.Tensor, early: Any, boxes: torch.Tensor) -> Any:
    """Masks of the picture, upscaled as its processor does."""
    outputs = model(
        image_embeddings=embeddings, intermediate_embeddings=early, input_boxes=boxes, multimask_output=False
    )
    height, width = (round(size * _SIDE / max(PICTURE_HW)) for size in PICTURE_HW)
    logits = F.interpolate(outputs.pred_masks[0], (_SIDE, _SIDE), mode="bilinear", align_corners=False)
    logits = F.interpolate(logits[..., :height, :width], PICTURE_HW, mode="bilinear", align_corners=False)
    return (logits > 0).numpy()
