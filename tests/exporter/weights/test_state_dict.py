"""Names and values of tensors: official ones round trip; missing, foreign, mixed and broken ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from samhq_exporter.weights.checkpoint import (
    from_official_keys,
    load_checkpoint,
    to_official_keys,
)
from samhq_runtime.errors import CheckpointError
from tests.support.models import State, save_checkpoint, save_state, tiny_sam

CONTENTS: dict[str, tuple[object, str]] = {
    "a list": ([torch.zeros(1)], "holds a list"),
    "a tensor": (torch.zeros(2), "holds a Tensor"),
    "nothing": ({}, "not a SAM checkpoint"),
    "numbers": ({"epoch": 3}, "expected a state dict"),
    "a wrapped list": ({"model": [1]}, "expected a state dict"),
    "another model": ({"fc.weight": torch.zeros(2, 2)}, "not a SAM checkpoint"),
}


@pytest.mark.parametrize("case", CONTENTS)
def test_not_a_state_dict_of_sam(tmp_path: Path, case: str) -> None:
    content, complaint = CONTENTS[case]
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(tmp_path / "m.pth")


CHANGES: dict[str, tuple[Callable[[State], object], str]] = {
    "one missing": (lambda s: s.pop("mask_decoder.iou_token.weight"), r"missing.*iou_token"),
    "one extra": (lambda s: s.update(extra=torch.zeros(1)), r"unexpected.*extra"),
    "a block missing in the middle": (
        lambda s: [s.pop(k) for k in list(s) if k.startswith("image_encoder.blocks.2.")],
        "m.pth",
    ),
    "HQ layer missing": (lambda s: s.pop("mask_decoder.hf_mlp.layers.0.weight"), "hf_mlp|hq_mlp"),
    "NaN": (lambda s: s["mask_decoder.hf_token.weight"].fill_(float("nan")), "NaN or infinity"),
    "one infinity": (lambda s: s["image_encoder.neck.0.weight"].view(-1)[5:6].fill_(float("inf")), "NaN or infinity"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changed_tensors(state: State, tmp_path: Path, case: str) -> None:
    change, complaint = CHANGES[case]
    state = {key: value.clone() for key, value in state.items()}
    change(state)
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(save_state(state, tmp_path / "m.pth"))


def test_key_names_round_trip(state: State) -> None:
    assert to_official_keys(from_official_keys(state)).keys() == state.keys()
    assert any("hf_token" in key for key in state)
    assert not any("hq_" in key for key in state)


def test_saved_by_conftest_is_official(tmp_path: Path) -> None:
    path = save_checkpoint(tiny_sam(), tmp_path / "m.pth")
    assert "mask_decoder.hf_mlp.layers.0.weight" in torch.load(path, weights_only=True)


LAYOUTS: dict[str, tuple[str, Callable[[State], object], str]] = {
    "official with one of Hugging Face": (
        "m.safetensors",
        lambda s: s.update({"vision_encoder.pos_embed": torch.zeros(1)}),
        "mixes two layouts",
    ),
    "the same in a pickle": (
        "m.pth",
        lambda s: s.update({"vision_encoder.pos_embed": torch.zeros(1)}),
        r"official names such as image_encoder\..* and 1 of Hugging Face such as vision_encoder\.pos_embed",
    ),
    "a shared tensor of Hugging Face": (
        "m.safetensors",
        lambda s: s.update({"shared_image_embedding.positional_embedding": torch.zeros(1)}),
        r"unexpected \[shared_image_embedding\.positional_embedding\]",
    ),
    "the HQ token under its Hugging Face name too": (
        "m.safetensors",
        lambda s: s.update({"mask_decoder.hq_token.weight": s["mask_decoder.hf_token.weight"] + 1}),
        r"unexpected \[mask_decoder\.hq_token\.weight\]",
    ),
    "a pickle of Hugging Face": (
        "pytorch_model.bin",
        lambda s: [s.update({k.replace("image_encoder", "vision_encoder"): s.pop(k)}) for k in list(s)],
        "Hugging Face weights as a pickle.*save_pretrained",
    ),
    "a classifier in a ViT": (
        "m.pth",
        lambda s: s.update({"image_encoder.head.weight": torch.zeros(2, 2)}),
        r"unexpected \[image_encoder\.head\.weight\]",
    ),
    "a TinyViT's cache in a ViT": (
        "m.pth",
        lambda s: s.update({"image_encoder.blocks.0.attn.ab": torch.zeros(2)}),
        r"unexpected \[image_encoder\.blocks\.0\.attn\.ab\]",
    ),
    "a batch counter in a ViT": (
        "m.pth",
        lambda s: s.update({"mask_decoder.bn.num_batches_tracked": torch.zeros(1)}),
        "unexpected.*num_batches_tracked",
    ),
    "a ViT and a TinyViT": (
        "m.pth",
        lambda s: s.update({"image_encoder.patch_embed.seq.0.c.weight": torch.zeros(32, 3, 3, 3)}),
        r"unexpected \[image_encoder\.blocks\.",
    ),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_mixed_up_names(state: State, tmp_path: Path, case: str) -> None:
    name, change, complaint = LAYOUTS[case]
    state = dict(state)
    change(state)
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(save_state(state, tmp_path / name))
