"""Sam2Model folders read without transformers, against the transformers model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.errors import CheckpointError
from tests.support.json_files import edit_json
from tests.support.official import declare_torchvision_operators
from tests.support.parity import assert_close, randomise

SIZES: dict[str, Any] = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": 16,
            "image_size": [256, 256],
            "blocks_per_stage": [1, 2, 3, 1],
            "embed_dim_per_stage": [16, 32, 64, 128],
            "global_attention_blocks": [4],
        },
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
        "fpn_hidden_size": 64,
    },
    "prompt_encoder_config": {"hidden_size": 64, "image_size": 256},
    "mask_decoder_config": {"hidden_size": 64},
}


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    declare_torchvision_operators()
    transformers = pytest.importorskip("transformers", reason="the reference of Hugging Face folders is not installed")
    if not hasattr(transformers, "Sam2Model"):
        pytest.skip(f"transformers {transformers.__version__} has no Sam2Model")
    model = transformers.Sam2Model(transformers.Sam2Config(**SIZES))
    randomise(model, seed=7)
    model.prompt_encoder.shared_embedding.load_state_dict(model.shared_image_embedding.state_dict())  # as published
    return model.eval().requires_grad_(False)


@pytest.fixture
def folder(theirs: Any, tmp_path: Path) -> Path:
    theirs.save_pretrained(tmp_path / "sam2")
    return tmp_path / "sam2"


def test_masks(theirs: Any, folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.variant, checkpoint.token_fusion, checkpoint.notice) == ("hiera_demo", "none", "")
    pixels = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    features = checkpoint.sam.encode_image(pixels)
    for got, expected in zip(features, (lambda a, b, c: (c, a, b))(*theirs.get_image_embeddings(pixels)), strict=True):
        assert_close(got, expected)
    points, labels = torch.tensor([[[60.0, 80.0], [200.0, 30.0]]]), torch.tensor([[1, 0]])
    out = theirs(pixel_values=pixels, input_points=points[None], input_labels=labels[None], multimask_output=True)
    padded = torch.cat([points, torch.zeros(1, 1, 2)], dim=1), torch.tensor([[1.0, 0.0, -1.0]])
    nothing = torch.zeros(1, 1, 64, 64), torch.zeros(1)
    index = torch.zeros(1, dtype=torch.int64)
    logits, iou, scores = checkpoint.sam.decode_masks(*features, *padded, *nothing, index, torch.eye(4)[1:])
    assert_close(logits, out.pred_masks[0])
    assert_close(iou[:, 1:], out.iou_scores[0])
    assert (scores - out.object_score_logits[0]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("backbone_config", "window_size_per_stage", [8, 4, 16, 8], r"\(8, 4, 16, 8\), expected \(8, 4, 14, 7\) as in"),
        ("backbone_config", "global_attention_blocks", [3], r"global_attention_blocks is \(3,\), expected \(4,\)"),
        ("backbone_config", "num_attention_heads_per_stage", [2, 2, 4, 8], r"expected \(1, 2, 4, 8\)"),
        ("backbone_config", "hidden_act", "relu", "hidden_act is 'relu', expected 'gelu' but only that value"),
        ("mask_decoder_config", "dynamic_multimask_via_stability", False, "is False, expected True as SAM 2 was"),
        ("prompt_encoder_config", "image_size", 512, r"image_size is \(512, 512\), expected \(256, 256\)"),
    ],
)
def test_config_of_another_model(folder: Path, section: str, name: str, value: object, message: str) -> None:
    def change(config: dict[str, Any]) -> None:
        vision = config["vision_config"]
        (vision["backbone_config"] if section == "backbone_config" else config[section])[name] = value

    edit_json(folder / "config.json", change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_weights_for_videos(theirs: nn.Module, folder: Path) -> None:
    """As in the folders that Meta published: of the type sam2_video; without all of a SAM 2.1 it is a SAM 2."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    video = {"memory_attention.layer_norm.weight": torch.ones(64), "no_object_pointer": torch.ones(1, 64)}
    last = {"occlusion_spatial_embedding_parameter": torch.ones(1, 16)}
    edit_json(folder / "config.json", lambda config: config.update(model_type="sam2_video"))
    state = load_file(file)
    save_file(state | video | last, file, {"format": "pt"})
    assert load_checkpoint(folder).notice.startswith("sam2: 3 tensors are for videos alone and left out")
    save_file(state | video, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"sam2: holds SAM 2, not SAM 2\.1"):
        load_checkpoint(folder)
