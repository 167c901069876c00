"""The official PyTorch package, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.support.official import declare_torchvision_operators, official_generator  # tests/support/official.py

declare_torchvision_operators()
from segment_anything_hq import SamPredictor, sam_model_registry  # noqa: E402

from tests.support.reference import official_demo_sam  # noqa: E402

from .everything import options_of  # noqa: E402
from .scene import PHOTO_HW, PICTURE_HW, Scene  # noqa: E402

DEMO = "demo"  # the variant of the model that comes with this project


def load(contender: str, job: str, scene: Scene) -> Callable[[], Any]:
    kind, _, count = job.partition(":")
    sam = official_sam(scene)
    predictor = SamPredictor(sam)
    if contender.endswith("compile"):
        (sam.image_encoder if kind == "encoder" else sam.mask_decoder).compile()
    if kind == "encoder":
        input_image = torch.from_numpy(np.load(scene.input_image))
        return torch.inference_mode()(lambda: sam.image_encoder(input_image)[0].numpy())
    if kind == "photo":
        photo, boxes = np.load(scene.photo), scene.boxes(int(count), PHOTO_HW)
        return torch.inference_mode()(lambda: _segment(predictor, photo, boxes))
    if kind == "everything":
        generator = official_generator()(sam, **options_of(scene))
        return torch.inference_mode()(lambda: generator.generate(np.load(scene.picture)))
    predictor.set_image(np.load(scene.picture))
    prompts = _model_frame(predictor, scene.boxes(int(count)), PICTURE_HW)
    return torch.inference_mode()(lambda: _masks(predictor, prompts))


def official_sam(scene: Scene) -> Any:
    if scene.threads:
        torch.set_num_threads(scene.threads)
    if scene.variant == DEMO:
        return official_demo_sam()
    return sam_model_registry[scene.variant](checkpoint=str(scene.checkpoint)).eval().requires_grad_(False)


def _segment(predictor: Any, photo: np.ndarray, boxes: np.ndarray) -> Any:
    predictor.set_image(photo)
    return _masks(predictor, _model_frame(predictor, boxes, PHOTO_HW))


def _masks(predictor: Any, boxes: torch.Tensor) -> Any:
    return predictor.predict_torch(None, None, boxes=boxes, multimask_output=False)[0].numpy()


def _model_frame(predictor: Any, boxes: np.ndarray, hw: tuple[int, int]) -> torch.Tensor:
    return predictor.transform.apply_boxes_torch(torch.from_numpy(boxes), hw)
