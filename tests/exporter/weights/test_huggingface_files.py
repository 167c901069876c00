"""Files of a Hugging Face folder: damaged, missing, tied, and recognised by names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from samhq_exporter.weights.huggingface import is_huggingface, read_huggingface
from samhq_runtime.errors import CheckpointError


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "config.json: no such file"),
        ("config.json", b"{", "cannot be read as JSON"),
        ("config.json", b"[]", "holds a list"),
        ("config.json", b'{"model_type": "sam_hq", "vision_config": 3}', "vision_config is 3, expected an object"),
        ("model.safetensors", None, "neither model.safetensors nor"),
        ("model.safetensors", b"\x08" + bytes(7) + b"nonsense", "cannot be read as safetensors"),
    ],
)
def test_damaged_folder(folder: Path, name: str, content: bytes | None, message: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("shard", "message"),
    [("model-00001-of-00002.safetensors", "is missing, one of 1 shards"), ("../x.safetensors", "of the same folder")],
)
def test_index_of_shards_that_are_not_here(folder: Path, shard: str, message: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match=message):
        read_huggingface(folder)


def test_tied_tensors_must_agree(folder: Path) -> None:
    file, twin = folder / "model.safetensors", "prompt_encoder.shared_embedding.positional_embedding"
    tensors = load_file(file)
    save_file(tensors | {twin: tensors["shared_image_embedding.positional_embedding"].clone()}, file)
    read_huggingface(folder)
    save_file(tensors | {twin: tensors["shared_image_embedding.positional_embedding"] + 1}, file)
    with pytest.raises(CheckpointError, match="differs from its twin"):
        read_huggingface(folder)


def test_recognised_by_names(folder: Path, tmp_path: Path) -> None:
    official, damaged = tmp_path / "official.safetensors", tmp_path / "damaged.safetensors"
    save_file({"image_encoder.pos_embed": torch.zeros(1)}, official)
    damaged.write_bytes(b"nonsense")
    assert is_huggingface(folder)
    assert is_huggingface(folder / "model.safetensors")
    assert not [path for path in (official, damaged, tmp_path / "absent.safetensors") if is_huggingface(path)]


def test_missing_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["vision_encoder.pos_embed"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"image_encoder\.pos_embed"):
        read_huggingface(folder)
