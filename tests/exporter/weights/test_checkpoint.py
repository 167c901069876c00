"""Weights files: every accepted form gives the same model; damage, code and wishes not met are refused."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from samhq_exporter.weights.checkpoint import (
    load_checkpoint,
    to_official_keys,
)
from samhq_runtime.errors import CheckpointError, ConfigError
from samhq_runtime.files import sha256_of
from tests.support.models import TINY, State, save_state

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
    with pytest.raises(CheckpointError, match="a zip archive of 1 other files"):
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
