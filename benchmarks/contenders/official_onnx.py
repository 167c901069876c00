"""ONNX files of the official modules, as its own script and the other exporters make them, under ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

from .scene import PICTURE_HW, Scene

_SIDE, _LOW_RES = 1024, 256
_BOX_LABELS = np.array([[2, 3]], np.float32)


def load(contender: str, job: str, scene: Scene) -> Callable[[], Any]:
    kind, _, count = job.partition(":")
    options = ort.SessionOptions()
    options.intra_op_num_threads = scene.threads
    session = ort.InferenceSession(scene.folder / f"official_{kind}.onnx", options, providers=["CPUExecutionProvider"])
    if kind == "encoder":
        input_image = np.load(scene.input_image)
        return lambda: session.run(None, {"input_image": input_image})[0]
    features = dict(np.load(scene.folder / "official_features.npz"))
    feeds = [_feeds(features, box) for box in scene.boxes(int(count))]
    # The official graph decodes one prompt per call.
    return lambda: np.stack([session.run(["masks"], feed)[0][0] > 0 for feed in feeds])


def _feeds(features: dict[str, np.ndarray], box: np.ndarray) -> dict[str, np.ndarray]:
    scale = _SIDE / max(PICTURE_HW)
    return {
        **features,
        "point_coords": (box.reshape(1, 2, 2) * scale).astype(np.float32),
        "point_labels": _BOX_LABELS,
        "mask_input": np.zeros((1, 1, _LOW_RES, _LOW_RES), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(PICTURE_HW, np.float32),
    }
