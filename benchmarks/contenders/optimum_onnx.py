"""SAM as `optimum-onnx` exports it (no HQ, no boxes, no upscale), in an environment of its own.

    PYTHON -m benchmarks.contenders.optimum_onnx SCENE

makes the files; run with the Python that has optimum-onnx installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .scene import Scene, read_scene

_FOLDER = "optimum"


def load(contender: str, job: str, scene: Scene) -> Callable[[], Any]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = scene.threads
    graph = scene.folder / _FOLDER / "vision_encoder.onnx"
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    input_image = np.load(scene.input_image)
    return lambda: session.run(["image_embeddings"], {"pixel_values": input_image})[0]


def main() -> None:
    import torch
    from optimum.exporters.onnx import main_export
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    scene = read_scene(Path(sys.argv[1]))
    torch.manual_seed(0)
    model = scene.folder / "optimum_model"
    SamModel(SamConfig()).save_pretrained(model)
    SamProcessor(SamImageProcessor()).save_pretrained(model)
    main_export(str(model), scene.folder / _FOLDER, task="feature-extraction", do_validation=False)


if __name__ == "__main__":
    main()
