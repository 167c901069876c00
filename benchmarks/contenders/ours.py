"""This project's runtime on an exported bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from samhq_runtime.bundle import load_bundle
from samhq_runtime.contract import IMAGE_ENCODER
from samhq_runtime.everything.generator import MaskGenerator
from samhq_runtime.predictor import Predictor
from samhq_runtime.session import ort  # noqa: F401  # counted as import, like the peers' own

from .everything import options_of
from .scene import PHOTO_HW, Scene

PROVIDERS = {"ours": "cpu", "ours int8": "cpu", "ours OpenVINO": "openvino", "ours OpenVINO bf16": "openvino:bf16"}


def load(contender: str, job: str, scene: Scene) -> Callable[[], Any]:
    kind, _, count = job.partition(":")
    providers, threads = (PROVIDERS[contender],), scene.threads
    if kind == "encoder":
        session = load_bundle(scene.bundle).open(IMAGE_ENCODER, providers=providers, threads=threads)
        input_image = np.load(scene.input_image)
        return lambda: session({"input_image": input_image})["image_embeddings"]
    predictor = Predictor(scene.bundle, providers=providers, threads=threads)
    if kind == "photo":
        photo, boxes = np.load(scene.photo), scene.boxes(int(count), PHOTO_HW)
        return lambda: _segment(predictor, photo, boxes)
    if kind == "everything":
        generator = MaskGenerator(predictor, **options_of(scene))
        return lambda: generator.generate(np.load(scene.picture))
    predictor.set_image(np.load(scene.picture))
    boxes = scene.boxes(int(count))
    return lambda: predictor.predict_batch(box=boxes, multimask_output=False)[0]


def _segment(predictor: Predictor, photo: np.ndarray, boxes: np.ndarray) -> Any:
    predictor.set_image(photo)
    return predictor.predict_batch(box=boxes, multimask_output=False)[0]
