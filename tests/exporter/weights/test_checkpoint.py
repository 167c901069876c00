"""Weights files: every accepted form gives the same model, everything else is refused with a reason."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.model import Sam
from samhq_exporter.weights.checkpoint import (
    from_official_keys,
    infer_architecture,
    load_checkpoint,
    to_official_keys,
)
from samhq_runtime.errors import CheckpointError, ConfigError
from samhq_runtime.files import sha256_of
from tests.support.models import TINY, save_checkpoint, tiny_sam

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    return to_official_keys(tiny_sam().state_dict())


def save_state(state: State, path: Path, metadata: dict[str, str] | None = None) -> Path:
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    else:
        torch.save(state, path)
    return path


FORMS: dict[str, tuple[str, Callable[[State], object]]] = {
    "pth": ("m.pth", lambda s: s),
    "pt": ("m.pt", lambda s: s),
    "safetensors": ("m.safetensors", lambda s: s),
    "under model": ("m.pth", lambda s: {"model": s, "epoch": 3}),
    "under state_dict": ("m.pth", lambda s: {"state_dict": s}),
    "of DataParallel": ("m.pth", lambda s: {f"module.{key}": value for key, value in s.items()}),
    "both": ("m.pth", lambda s: {"model": {f"module.{key}": value for key, value in s.items()}}),
    "float64": ("m.pth", lambda s: {key: value.double() for key, value in s.items()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_model(state: State, tmp_path: Path, form: str) -> None:
    name, wrap = FORMS[form]
    path = save_state(wrap(state), tmp_path / name)  # type: ignore[arg-type]
    checkpoint = load_checkpoint(path)
    assert checkpoint.sam.arch == TINY
    assert (checkpoint.variant, checkpoint.token_fusion, checkpoint.file_name) == ("custom", "independent", name)
    assert checkpoint.sha256 == sha256_of(path)
    assert not checkpoint.sam.training
    loaded = to_official_keys(checkpoint.sam.state_dict())
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_half_precision_weights_are_read_as_float32(state: State, tmp_path: Path) -> None:
    path = save_state({key: value.half() for key, value in state.items()}, tmp_path / "half.pth")
    loaded = to_official_keys(load_checkpoint(path).sam.state_dict())
    assert all(torch.equal(loaded[key], value.half().float()) for key, value in state.items())


@pytest.mark.parametrize("data", [b"", b"\x00", b"PK\x03\x04", b"weights\n", b'{"a": 1}', bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["m.pth", "m.safetensors", "m.bin"])
def test_not_a_weights_file(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(tmp_path / name)


def test_random_bytes_never_escape(tmp_path: Path) -> None:
    """Also those that begin like a pickle, which torch's reader takes more steps into."""
    path = tmp_path / "noise.pth"
    generator = torch.Generator().manual_seed(0)
    for index in range(300):
        noise = bytes(torch.randint(0, 256, (60,), generator=generator, dtype=torch.uint8))
        path.write_bytes((b"", b"\x80\x02", b"\x80\x02}q\x00(", b"\x80\x04\x95")[index % 4] + noise)
        with pytest.raises(CheckpointError, match=r"noise\.pth"):
            load_checkpoint(path)


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "m.pth")


@pytest.mark.parametrize("path", ["nowhere.pth", "nowhere/sam.safetensors", "."])
def test_no_such_file(tmp_path: Path, path: str) -> None:
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / path)


@pytest.mark.parametrize("name", ["m.pth", "m.safetensors"])
@pytest.mark.parametrize("keep", [3, 64, 2000, 0.3, 0.9, 0.999, -1])
def test_truncated(state: State, tmp_path: Path, name: str, keep: float) -> None:
    path = save_state(state, tmp_path / name)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(path)


class Payload:
    """Touches a file when unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.sentinel,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("bare", [False, True])
def test_code_in_a_pickle_does_not_run(state: State, tmp_path: Path, legacy: bool, bare: bool) -> None:
    path, sentinel = tmp_path / "evil.pth", tmp_path / "ran"
    content = {**state, "payload": Payload(sentinel)}
    if bare:
        path.write_bytes(pickle.dumps(content["payload"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="may hold code"):
        load_checkpoint(path)
    assert not sentinel.exists()
    pickle.loads(pickle.dumps(content["payload"]))
    assert sentinel.exists()  # the payload does work


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


MISSHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "scalar": lambda t: t.flatten()[0],
    "flat": lambda t: t.flatten(),
    "empty": lambda t: t[:0],
    "one row more": lambda t: torch.cat([t, t[:1]]),
    "one axis more": lambda t: t[None],
}


# The tensors whose shapes the architecture is read from, and one other.
SIZE_KEYS = (
    "image_encoder.patch_embed.proj.weight",
    "image_encoder.pos_embed",
    "image_encoder.blocks.0.attn.rel_pos_h",
    "image_encoder.blocks.1.attn.rel_pos_h",
    "image_encoder.blocks.0.mlp.lin1.weight",
    "mask_decoder.mask_tokens.weight",
    "mask_decoder.transformer.layers.0.mlp.lin1.weight",
    "mask_decoder.iou_prediction_head.layers.0.weight",
    "prompt_encoder.mask_downscaling.3.weight",
    "mask_decoder.hf_token.weight",
)


@pytest.mark.parametrize("kind", MISSHAPES)
@pytest.mark.parametrize("key", SIZE_KEYS)
def test_tensor_of_another_shape(state: State, tmp_path: Path, key: str, kind: str) -> None:
    path = tmp_path / "m.pth"
    torch.save({**state, key: MISSHAPES[kind](state[key])}, path)
    with pytest.raises(CheckpointError, match=r"m\.pth"):
        load_checkpoint(path)


METADATA: dict[str, tuple[str | None, str | None, str | None, str]] = {  # recorded, variant, fusion -> complaint
    "wrong variant": (None, "vit_b", None, "holds a custom model, --variant asked for vit_b"),
    "unknown variant": (None, "vit_x", None, "vit_x"),
    "unknown fusion asked": (None, None, "concat", "unknown token fusion 'concat'"),
    "unknown fusion recorded": ("concat", None, None, "unknown token fusion 'concat'"),
    "contradiction": ("hadamard", None, "sum", "was trained with token fusion hadamard"),
}


@pytest.mark.parametrize("case", METADATA)
def test_wishes_that_cannot_be_met(state: State, tmp_path: Path, case: str) -> None:
    recorded, variant, fusion, complaint = METADATA[case]
    metadata = None if recorded is None else {"token_fusion": recorded}
    path = save_state(state, tmp_path / "m.safetensors", metadata)
    with pytest.raises(ConfigError, match=complaint):
        load_checkpoint(path, variant=variant, token_fusion=fusion)


@pytest.mark.parametrize(
    ("recorded", "asked", "expected"),
    [
        (None, None, "independent"),
        (None, "sum", "sum"),
        ("hadamard", None, "hadamard"),
        ("hadamard", "hadamard", "hadamard"),
    ],
)
def test_token_fusion(state: State, tmp_path: Path, recorded: str | None, asked: str | None, expected: str) -> None:
    metadata = None if recorded is None else {"token_fusion": recorded}
    checkpoint = load_checkpoint(save_state(state, tmp_path / "m.safetensors", metadata), token_fusion=asked)
    assert checkpoint.token_fusion == checkpoint.sam.fusion_mode == expected


@pytest.mark.parametrize("name", [name for name, row in VARIANTS.items() if not row.stages])
def test_every_variant_is_recognised_by_shapes_alone(name: str) -> None:
    with torch.device("meta"):
        state = to_official_keys(Sam(VARIANTS[name]).state_dict())
    assert all(value.is_meta for value in state.values())
    assert infer_architecture(state, Path("m.pth")) == VARIANTS[name]


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
