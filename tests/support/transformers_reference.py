"""The transformers models with random weights, and a predictor over them with the API of the official one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from samhq_exporter.architecture import PIXEL_MEAN, PIXEL_STD
from samhq_runtime.contract import ModelFrame
from samhq_runtime.frames.geometry import preprocess, to_model_frame
from samhq_runtime.masks.upscale import upscale

from .parity import randomise

Sizes = dict[str, dict[str, Any]]

TINY: Sizes = {
    "vision_config": {
        "hidden_size": 48,
        "output_channels": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 128,
        "patch_size": 16,
        "window_size": 5,
        "global_attn_indexes": [1, 3],
        "num_pos_feats": 32,
        "mlp_dim": 80,
    },
    "prompt_encoder_config": {"hidden_size": 64, "image_size": 128, "patch_size": 16, "mask_input_channels": 8},
    "mask_decoder_config": {"hidden_size": 64, "mlp_dim": 96, "iou_head_hidden_dim": 40, "vit_dim": 48},
}


def sam_hq_of(transformers: ModuleType, sizes: Sizes, *, seed: int = 4) -> nn.Module:
    """A transformers model with random values in every tensor, and the decoder of the SAM-HQ authors.

    From 4.57 on (or earlier, but after 4.53) transformers upscales the image embeddings as they go *into* the two-way
    transformer, rows and columns swapped; the official decoder upscales what comes out of it. The hooks restore that,
    and change nothing where transformers does it right.
    """
    model = transformers.SamHQModel(transformers.SamHQConfig(**{key: dict(value) for key, value in sizes.items()}))
    randomise(model, seed=seed)
    decoder = model.mask_decoder
    image_tokens: list[Tensor] = []
    decoder.transformer.register_forward_hook(lambda module, args, out: image_tokens.append(out[1]))

    def upscale_image_tokens(module: nn.Module, args: tuple[Tensor]) -> Tensor:
        return image_tokens.pop().flatten(0, 1).transpose(1, 2).unflatten(2, args[0].shape[2:])

    decoder.upscale_conv1.register_forward_pre_hook(upscale_image_tokens)
    return model.eval().requires_grad_(False)


def sam_of(transformers: ModuleType, sizes: Sizes, *, seed: int = 4) -> nn.Module:
    """A transformers plain SAM with random values in every tensor."""
    sizes = {section: {k: v for k, v in values.items() if k != "vit_dim"} for section, values in sizes.items()}
    model = transformers.SamModel(transformers.SamConfig(**sizes))
    randomise(model, seed=seed)
    return model.eval().requires_grad_(False)


class TransformersPredictor:
    """`SamPredictor` over a transformers model; resizing and coordinates are the runtime's, tested on their own."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.frame = ModelFrame(model.config.vision_config.image_size)

    @torch.inference_mode()
    def set_image(self, image: NDArray[np.uint8]) -> None:
        self.original_hw = image.shape[0], image.shape[1]
        pixels = torch.from_numpy(preprocess(image, self.frame, PIXEL_MEAN, PIXEL_STD))
        embeddings = self.model.get_image_embeddings(pixels)
        if torch.is_tensor(embeddings):
            self.features = {"image_embeddings": embeddings}
        else:
            self.features = dict(zip(("image_embeddings", "intermediate_embeddings"), embeddings, strict=True))

    @torch.inference_mode()
    def predict(
        self,
        point_coords: NDArray[Any] | None = None,
        point_labels: NDArray[Any] | None = None,
        box: NDArray[Any] | None = None,
        mask_input: NDArray[Any] | None = None,
        return_logits: bool = True,
        **options: bool,
    ) -> tuple[NDArray[Any], ...]:
        prompts: dict[str, Tensor] = {}
        if point_coords is not None and point_labels is not None:
            prompts["input_points"] = self._frame(point_coords)[None, None]
            prompts["input_labels"] = torch.from_numpy(point_labels)[None, None]
        if box is not None:
            prompts["input_boxes"] = self._frame(box.reshape(2, 2)).reshape(1, 1, 4)
        if mask_input is not None:
            prompts["input_masks"] = torch.from_numpy(mask_input)[None]
        out = self.model(**self.features, **prompts, **options)
        kept = 3 if options.get("multimask_output") and "intermediate_embeddings" not in self.features else 1
        low_res, iou = out.pred_masks[0, 0, :kept].numpy(), out.iou_scores[0, 0, :kept].numpy()  # sorted, best first
        return upscale(low_res, self.original_hw, self.frame), iou, low_res

    def _frame(self, points: NDArray[Any]) -> Tensor:
        return torch.from_numpy(to_model_frame(points, self.original_hw, self.frame))
