"""How much of the PyTorch model's masks a bundle keeps, on held-out scenes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samhq_runtime.bundle import Bundle
from samhq_runtime.evaluation.metrics import iou
from samhq_runtime.frames.geometry import preprocess
from samhq_runtime.frames.prompts import encode_prompts
from samhq_runtime.masks.choice import MaskChoice
from samhq_runtime.masks.upscale import upscale
from samhq_runtime.predictor import Predictor

from ..model import PlainSam
from ..scenes.drawing import Scene, draw_scene
from ..verification.emulation import runnable


@torch.inference_mode()
def mask_ious(bundle: Bundle, sam: PlainSam, seeds: Iterable[int]) -> dict[str, list[float]]:
    """IoU of the bundle's and of float32 PyTorch's masks, one number per object, by prompt (`box`, `point`).

    Masks are those a user gets: single-mask output at the image's size. A precision the CPU lacks is emulated.
    """
    manifest = bundle.manifest
    sizes = manifest.sizes
    side = sizes.image_size
    weights = MaskChoice(sizes=sizes, multimask_output=False).weights()
    ious: dict[str, list[float]] = {"box": [], "point": []}
    with runnable(bundle) as here, Predictor(here) as predictor:
        for seed in seeds:
            scene = draw_scene(seed, side)
            predictor.set_image(scene.image)
            features = sam.encode_image(
                torch.from_numpy(preprocess(scene.image, sizes.frame, manifest.pixel_mean, manifest.pixel_std))
            )
            for kind, prompt in _prompts(scene).items():
                got = predictor.predict_batch(**prompt, multimask_output=False)[0][:, 0]
                prompts = encode_prompts(**prompt, original_hw=(side, side), sizes=sizes)
                feeds = prompts.feeds(weights)
                logits, _ = sam.decode_masks(*features, **{k: torch.from_numpy(a) for k, a in feeds.items()})
                expected = upscale(logits.numpy(), (side, side), sizes.frame)[:, 0] > manifest.mask_threshold
                ious[kind] += [iou(ours, reference) for ours, reference in zip(got, expected, strict=True)]
    return ious


def _prompts(scene: Scene) -> dict[str, dict[str, Any]]:
    points = np.array([[_inner_pixel(mask)] for mask in scene.masks], np.float32)
    return {
        "box": {"box": scene.boxes},
        "point": {"point_coords": points, "point_labels": np.ones((len(points), 1), np.float32)},
    }


def _inner_pixel(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """x, y of the mask's pixel in the middle of its list of pixels."""
    rows, columns = np.nonzero(mask)
    middle = len(rows) // 2
    return int(columns[middle]), int(rows[middle])
