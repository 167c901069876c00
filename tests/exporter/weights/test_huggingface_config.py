"""The configuration of a Hugging Face folder: defaults, and values that another model has."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_exporter.weights.huggingface import read_huggingface
from samhq_exporter.weights.huggingface_config import FIXED, HQ_SIZES, SIZES
from samhq_runtime.errors import CheckpointError
from tests.support.json_files import edit_json


def test_defaults_are_those_of_transformers(transformers: ModuleType) -> None:
    for config, tables in (
        (transformers.SamHQConfig(), (FIXED, SIZES, HQ_SIZES)),
        (transformers.SamConfig(), (FIXED, SIZES)),
    ):
        written = config.to_dict()
        written["vision_config"]["mlp_dim"] = None  # transformers writes the product it stands for
        for section, name, value in ((s, n, v) for table in tables for s in table for n, v in table[s].items()):
            got = written[section][name]
            assert (tuple(got) if isinstance(got, list) else got) == value, (section, name)


def test_left_out_settings_are_defaults(folder: Path) -> None:
    edit_json(folder / "config.json", lambda config: config["mask_decoder_config"].pop("num_hidden_layers"))
    read_huggingface(folder)
    edit_json(folder / "config.json", lambda config: config["vision_config"].pop("hidden_size"))
    with pytest.raises(CheckpointError, match=r"vision_config\.hidden_size is 768, expected 48"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("vision_config", "num_attention_heads", 8, r"num_attention_heads is 8, expected 4 by the shapes"),
        ("vision_config", "window_size", 14, r"window_size is 14, expected 5"),
        ("vision_config", "global_attn_indexes", [0], r"global_attn_indexes is \(0,\), expected \(1, 3\)"),
        ("vision_config", "hidden_act", "relu", r"hidden_act is 'relu', expected 'gelu' but only that value"),
        ("mask_decoder_config", "num_attention_heads", 4, r"num_attention_heads is 4, expected 8"),
        ("mask_decoder_config", "vit_dim", 768, r"vit_dim is 768, expected 48"),
        ("prompt_encoder_config", "image_size", 256, r"prompt_encoder_config\.image_size is 256"),
        ("mask_decoder_config", "iou_head_depth", 4, r"iou_head_depth is 4, expected 3"),
        ("mask_decoder_config", "layer_norm_eps", "small", r"layer_norm_eps is 'small', expected a number"),
        ("mask_decoder_config", "layer_norm_eps", -1e-6, r"layer_norm_eps is -1e-06, expected a number"),
    ],
)
def test_config_of_another_model(folder: Path, section: str, name: str, value: object, message: str) -> None:
    edit_json(folder / "config.json", lambda config: config[section].update({name: value}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_other_model_type(folder: Path) -> None:
    edit_json(folder / "config.json", lambda config: config.update(model_type="sam3"))
    with pytest.raises(CheckpointError, match="a model of type 'sam3'"):
        read_huggingface(folder)
