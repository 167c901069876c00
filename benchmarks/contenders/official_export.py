"""Makes the ONNX files of the official modules: python -m benchmarks.contenders.official_export SCENE.

The decoder is `SamOnnxModel` of the official package, traced as its export script does; the encoder is the official
module as it is, which is what exporters without a rewriting step produce.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from .official_torch import official_sam
from .scene import read_scene

from segment_anything_hq.utils.onnx import SamOnnxModel  # isort: skip  # after official_torch has made it importable

_OPSET = 17
_GRID = 64


@torch.no_grad()
def main() -> None:
    scene = read_scene(Path(sys.argv[1]))
    sam = official_sam(scene)
    input_image = torch.from_numpy(np.load(scene.input_image))
    embeddings, early = sam.image_encoder(input_image)
    features = {"image_embeddings": embeddings, "interm_embeddings": torch.stack(early)}
    np.savez(scene.folder / "official_features.npz", **{name: tensor.numpy() for name, tensor in features.items()})
    outputs = ["image_embeddings", *(f"interm_embeddings_{i}" for i in range(len(early)))]
    torch.onnx.export(
        sam.image_encoder,
        (input_image,),
        str(scene.folder / "official_encoder.onnx"),
        input_names=["input_image"],
        output_names=outputs,
        opset_version=_OPSET,
        dynamo=False,
    )
    inputs = {
        **features,
        "point_coords": torch.randint(0, 1024, (1, 5, 2), dtype=torch.float),
        "point_labels": torch.randint(0, 4, (1, 5), dtype=torch.float),
        "mask_input": torch.randn(1, 1, 4 * _GRID, 4 * _GRID),
        "has_mask_input": torch.tensor([1.0]),
        "orig_im_size": torch.tensor([1500.0, 2250.0]),
    }
    torch.onnx.export(
        SamOnnxModel(sam, hq_token_only=False, multimask_output=False),
        tuple(inputs.values()),
        str(scene.folder / "official_decoder.onnx"),
        input_names=list(inputs),
        output_names=["masks", "iou_predictions", "low_res_masks"],
        dynamic_axes={"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}},
        opset_version=_OPSET,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
