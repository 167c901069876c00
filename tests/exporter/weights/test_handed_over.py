"""Weights as people hand them over: wrapped, prefixed, beside other things, misnamed, partial, or not SAM's at all."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from samhq_exporter.architecture import PIXEL_MEAN, PIXEL_STD
from samhq_exporter.cli import main
from samhq_exporter.weights.checkpoint import load_checkpoint, to_official_keys
from samhq_runtime.cli import main as runtime_main
from samhq_runtime.errors import CheckpointError, ConfigError
from samhq_runtime.files import sha256_of
from tests.support.models import State, save_state


def below(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


def compiled_parts(state: State) -> State:
    """Each module compiled by itself: `image_encoder._orig_mod.pos_embed`."""
    return {key.replace(".", "._orig_mod.", 1): value for key, value in state.items()}


def statistics() -> State:
    """Buffers that the official packages leave out of their files, and some forks do not."""
    return {"pixel_mean": torch.tensor(PIXEL_MEAN)[:, None, None], "pixel_std": torch.tensor(PIXEL_STD)[:, None, None]}


def of_each_module(state: State) -> dict[str, State]:
    parts: dict[str, State] = {}
    for key, value in state.items():
        module, _, name = key.partition(".")
        parts.setdefault(module, {})[name] = value
    return parts


def of_training(state: State) -> dict[str, Any]:
    """What a loop saves beside its weights."""
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    return {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(),
        "scaler": {"scale": 65536.0},
        "epoch": 3,
        "best_iou": np.float64(0.9),
        "mean": np.zeros(3, np.float32),
        "args": argparse.Namespace(lr=1e-3, output=pathlib.PurePosixPath("out")),
        "config": types.SimpleNamespace(a=1),
        "rng": [torch.get_rng_state(), np.random.default_rng(0).bit_generator.state],
        "curves": defaultdict(list, {"loss": [0.1]}),
        "seen": {1, 2},
        "when": datetime.datetime(2026, 1, 2),
        "schedule": scheduler,
    }


ACCEPTED: dict[str, Callable[[State], object]] = {
    "torch.compile": below("_orig_mod."),
    "compiled, then DataParallel": below("module._orig_mod."),
    "DataParallel, then compiled": below("_orig_mod.module."),
    "modules compiled one by one": compiled_parts,
    "in a Lightning module": lambda s: {"state_dict": below("model.")(s), "pytorch-lightning_version": "2.4.0"},
    "below sam.": below("sam."),
    "below model.sam.": below("model.sam."),
    "base_model.model.": below("base_model.model."),
    "with pixel statistics": lambda s: below("sam.")(s | statistics()),
    "under model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {}},
    "under model_state": lambda s: {"model_state": s, "best": 0.5},
    "under ema": lambda s: {"ema": s},
    "under two keys": lambda s: {"checkpoint": {"net": s}, "meta": {"seed": 1}},
    "under a number": lambda s: {0: s},
    "one state dict for each module": of_each_module,
    "the same inside a checkpoint": lambda s: {"nets": of_each_module(s), "step": 1},
    "numbers beside the tensors": lambda s: {**s, "epoch": 3, "loss": 0.1},
    "an OrderedDict": OrderedDict,
    "parameters": lambda s: {key: nn.Parameter(value) for key, value in s.items()},
    "of a training loop": of_training,
    "in a defaultdict": lambda s: {"state": defaultdict(torch.Tensor, s)},
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_the_weights_are_found(state: State, tmp_path: Path, case: str) -> None:
    torch.save(ACCEPTED[case](state), tmp_path / "m.pth")
    loaded = to_official_keys(load_checkpoint(tmp_path / "m.pth").sam.state_dict())
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_the_old_format_of_torch(state: State, tmp_path: Path) -> None:
    """Which no function lists the names of."""
    content = {"model": state, "args": argparse.Namespace(lr=1), "iou": np.float64(0.5)}
    torch.save(content, tmp_path / "m.pth", _use_new_zipfile_serialization=False)
    loaded = to_official_keys(load_checkpoint(tmp_path / "m.pth").sam.state_dict())
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_prefixes_in_safetensors(state: State, tmp_path: Path) -> None:
    path = save_state(below("sam.")(state), tmp_path / "m.safetensors")
    assert load_checkpoint(path).sha256 == sha256_of(path)


def sam2(state: State) -> State:
    names = ("image_encoder.trunk.pos_embed", "sam_mask_decoder.mask_tokens.weight", "memory_attention.norm.weight")
    return {name: torch.zeros(2) for name in names}


class Config:
    """A training program's own class."""

    lr = 1e-3


REFUSED: dict[str, tuple[Callable[[State], object], str]] = {
    "model and ema": (
        lambda s: {"model": s, "ema": s | {}},
        r"several models, content\['model'\], content\['ema'\]; .*torch\.save\(content\['model'\]",
    ),
    "teacher and student in one": (
        lambda s: {**below("teacher.")(s), **below("student.")(s)},
        r"below 'student\.', 'teacher\.'; expected one prefix",
    ),
    "a prefix of some names": (
        lambda s: {**below("model.")(s), "loss.weight": torch.zeros(1)},
        r"below 'model\.', and others such as loss\.weight",
    ),
    "other pixel statistics": (
        lambda s: {**s, "pixel_mean": torch.zeros(3, 1, 1)},
        r"pixel_mean is \[0\.0, 0\.0, 0\.0\]",
    ),
    "two tensors of one name": (
        lambda s: {**s, "module.mask_decoder.iou_token.weight": torch.zeros(1)},
        "another tensor are both mask_decoder.iou_token.weight",
    ),
    "LoRA alone": (
        lambda s: {"w_a_000": torch.zeros(4, 4), "w_b_000": torch.zeros(4, 4)},
        r"low-rank updates \(LoRA\).*merge them",
    ),
    "LoRA of peft": (
        lambda s: below("base_model.model.")({"image_encoder.blocks.0.attn.qkv.lora_A.weight": torch.zeros(4, 4)}),
        "low-rank updates",
    ),
    "LoRA in the model": (
        lambda s: {**s, "image_encoder.blocks.0.attn.qkv.linear_a_q.weight": torch.zeros(4, 4)},
        r"linear_a_q\.weight \(1 of ",
    ),
    "adapters": (lambda s: {**s, "image_encoder.blocks.0.MLP_Adapter.D_fc1.weight": torch.zeros(1)}, "holds adapters"),
    "SAM 2 before 2.1": (sam2, "holds SAM 2, not SAM 2.1.*no_obj_embed_spatial is missing"),
    "SAM 2 before 2.1 in its wrapping": (lambda s: {"model": sam2(s)}, "holds SAM 2, not SAM 2.1"),
    "SAM 2's video part": (
        lambda s: {"memory_attention.norm.weight": torch.zeros(2), "sam_mask_decoder.iou_token.weight": torch.zeros(2)},
        "parts of SAM 2 without its image encoder",
    ),
    "SAM 2 of transformers": (
        lambda s: {"vision_encoder.backbone.pos_embed": torch.zeros(2)},
        "holds SAM 2 under the names of transformers",
    ),
    "a Hiera of another size": (
        lambda s: {
            "image_encoder.trunk.patch_embed.proj.weight": torch.zeros(8, 3, 7, 7),
            "sam_mask_decoder.mask_tokens.weight": torch.zeros(4, 8),
        },
        "a Hiera of width 8 with 0 blocks",
    ),
    "FSDP": (lambda s: {"_fsdp_wrapped_module._flat_param": torch.zeros(9)}, "one FSDP process"),
    "a training program's class": (
        lambda s: {"model": s, "config": Config()},
        r'Config\).*may hold code(.|\n)*content = torch\.load\("m\.pth"(.|\n)*torch\.save\(content\["model"\]',
    ),
    "a whole module": (lambda s: nn.Linear(1, 1), r"torch\.nn\.(.|\n)*torch\.save\(content\.state_dict\(\)"),
    "an optimizer alone": (lambda s: torch.optim.SGD([torch.zeros(1)]).state_dict(), "holds a dict without tensors"),
    "only a mask decoder": (
        lambda s: decoder_of(s),
        r"mask decoder without its image encoder.*--base sam_vit_l_0b3195\.pth",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_said_of_others(state: State, tmp_path: Path, case: str) -> None:
    change, complaint = REFUSED[case]
    torch.save(change(state), tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(tmp_path / "m.pth")


def test_stand_ins_run_nothing(state: State, tmp_path: Path) -> None:
    """A function of a module that training programs store objects of is not called."""

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return np.savetxt, (str(tmp_path / "ran"), np.zeros(1))

    torch.save({"model": state, "payload": Payload()}, tmp_path / "m.pth")
    load_checkpoint(tmp_path / "m.pth")
    assert not (tmp_path / "ran").exists()


def decoder_of(state: State) -> State:
    """`net.module.state_dict()` of SAM-HQ's training."""
    prefix = "mask_decoder."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@pytest.mark.parametrize("form", [lambda s: s, below("module."), below("mask_decoder."), lambda s: {"model": s}])
def test_a_decoder_over_its_base(state: State, tmp_path: Path, form: Callable[[State], State]) -> None:
    """The trained decoder wins; a base without HQ part lacks nothing."""
    plain = {key: value + 1 for key, value in state.items() if "hf_" not in key}
    plain = {
        k: v for k, v in plain.items() if not any(p in k for p in ("vit_feat", "embedding_encoder", "maskfeature"))
    }
    base = save_state(plain, tmp_path / "sam_vit.pth")
    epoch = save_state(form(decoder_of(state)), tmp_path / "epoch_11.pth")
    checkpoint = load_checkpoint(epoch, base=base)
    loaded = to_official_keys(checkpoint.sam.state_dict())
    for key, value in state.items():
        assert torch.equal(loaded[key], value if key.startswith("mask_decoder.") else value + 1)
    assert checkpoint.base is not None
    assert (checkpoint.base.name, checkpoint.base.sha256) == ("sam_vit.pth", sha256_of(base))
    assert (checkpoint.file_name, checkpoint.sha256) == ("epoch_11.pth", sha256_of(epoch))


def test_the_command_records_the_base(state: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, epoch = save_state(state, tmp_path / "sam.pth"), save_state(decoder_of(state), tmp_path / "epoch_1.pth")
    output = tmp_path / "out"
    assert main(["--checkpoint", str(epoch), "--base", str(base), "--output", str(output)]) == 0
    assert runtime_main(["inspect", str(output)]) == 0
    assert f"sam.pth ({sha256_of(base)[:12]})" in capsys.readouterr().out


def test_bases_that_are_none(state: State, tmp_path: Path) -> None:
    whole, part = save_state(state, tmp_path / "sam.pth"), save_state(decoder_of(state), tmp_path / "epoch_1.pth")
    with pytest.raises(ConfigError, match=r"sam\.pth holds a whole model, which needs no base; drop it"):
        load_checkpoint(whole, base=whole)
    with pytest.raises(CheckpointError, match="has no image encoder either"):
        load_checkpoint(part, base=part)


def test_folders(state: State, tmp_path: Path) -> None:
    """Of peft, and of an official file that is inside."""
    (tmp_path / "m.pth").write_bytes(b"")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"or the file itself: .*m\.pth"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("<!doctype html>")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read as JSON \(a web page"):
        load_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"an adapter of peft \(LoRA\)"):
        load_checkpoint(tmp_path)
