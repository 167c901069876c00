"""Tuned HQ tokens and models in memory: other ways in, same results."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import torch as torch_file
from safetensors.numpy import save_file

from samhq_exporter.config import ExportConfig
from samhq_exporter.pipeline import export_bundle
from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.commands.inspect import describe
from samhq_runtime.errors import CheckpointError, ConfigError
from samhq_runtime.files import sha256_of
from samhq_runtime.hq_token import read_hq_token
from tests.support.bundles import export
from tests.support.models import TINY
from tests.support.official import import_official
from tests.support.parity import randomise
from tests.support.reference import official_sam

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
TOKEN = np.random.default_rng(1).normal(size=(1, TINY.embed_dim)).astype(np.float32)


def read(path: Path) -> np.ndarray:
    return read_hq_token(path, embed_dim=TINY.embed_dim, token_fusion="independent")


def logits_of(bundle: Bundle, hq_token: object = None) -> np.ndarray:
    with Predictor(bundle, hq_token=hq_token) as predictor:  # type: ignore[arg-type]
        predictor.set_image(IMAGE)
        return predictor.predict(box=[10, 10, 100, 70], multimask_output=False)[2]


def test_tuned_token_at_export_and_at_run_time(tiny_checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    save_file({"hq_token": TOKEN, "other": TOKEN[0]}, tmp_path / "tuned.safetensors")
    bundle = export(tiny_checkpoint, tmp_path / "bundle", hq_token=tmp_path / "tuned.safetensors")
    exported = logits_of(bundle)
    swapped = logits_of(tiny_bundle, tmp_path / "tuned.safetensors")
    assert np.abs(swapped - logits_of(tiny_bundle)).max() > 1e-2
    np.testing.assert_allclose(swapped, exported, atol=1e-5)
    sha256 = sha256_of(tmp_path / "tuned.safetensors")
    recorded = {"hq_token_file": "tuned.safetensors", "hq_token_sha256": sha256}
    assert bundle.manifest.checkpoint == {**tiny_bundle.manifest.checkpoint, **recorded}
    assert f"tuned.safetensors ({sha256[:12]})" in describe(bundle)
    assert "tuned" not in describe(tiny_bundle)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": TOKEN, "b": TOKEN}, "expected one tensor"),
        ({"hq_token": TOKEN[:, :5]}, r"expected 64 finite floats"),
        ({"hq_token": TOKEN * np.nan}, "NaN"),
        ({"hq_token": TOKEN.astype(np.float64) * 1e300}, "beyond float32"),
        ({"hq_token": TOKEN.astype(np.int32)}, "of type I32; expected F64, F32, F16 or BF16"),
    ],
)
def test_bad_tokens(tensors: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "bad.safetensors")


STORED: dict[str, tuple[str, torch.Tensor]] = {
    "ours": ("hq_token", torch.from_numpy(TOKEN)),
    "official": ("mask_decoder.hf_token.weight", torch.from_numpy(TOKEN).half()),
    "Hugging Face": ("mask_decoder.hq_token.weight", torch.from_numpy(TOKEN).bfloat16()),
    "flat": ("hq_token", torch.from_numpy(TOKEN)[0].double()),
}


@pytest.mark.parametrize("case", STORED)
def test_names_and_types(case: str, tmp_path: Path) -> None:
    name, tensor = STORED[case]
    torch_file.save_file({name: tensor, "mask_decoder.iou_token.weight": torch.ones(3)}, tmp_path / "t.safetensors")
    got = read(tmp_path / "t.safetensors")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, tensor.float().numpy().reshape(1, -1))


@pytest.mark.parametrize(("trained", "fits"), [("independent", True), (None, True), ("hadamard", False)])
def test_token_of_another_fusion(
    tiny_checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path, trained: str | None, fits: bool
) -> None:
    """The tiny model's fusion is `independent`; at run time and at export."""
    file = tmp_path / "tuned.safetensors"
    save_file({"hq_token": TOKEN}, file, {"token_fusion": trained} if trained else None)
    if fits:
        assert logits_of(tiny_bundle, file).size
        return
    complaint = "was trained with token fusion hadamard, expected independent"
    with pytest.raises(CheckpointError, match=complaint):
        logits_of(tiny_bundle, file)
    with pytest.raises(CheckpointError, match=complaint):
        export(tiny_checkpoint, tmp_path / "bundle", hq_token=file)


@pytest.mark.parametrize(
    ("name", "metadata", "family", "fits"),
    [
        ("mask_decoder.hf_token.weight", None, "sam2", False),
        ("sam_mask_decoder.hf_token.weight", None, "sam", False),
        ("sam_mask_decoder.hf_token.weight", None, "sam2", True),
        ("hq_token", {"family": "sam"}, "sam2", False),
        ("hq_token", {"family": "sam2"}, "sam", False),
        ("hq_token", {"family": "sam2"}, "sam2", True),
        ("hq_token", None, "sam2", True),  # nothing tells
    ],
)
def test_token_of_another_family(
    tmp_path: Path, name: str, metadata: dict[str, str] | None, family: str, fits: bool
) -> None:
    save_file({name: TOKEN}, tmp_path / "tuned.safetensors", metadata)
    outcome = nullcontext() if fits else pytest.raises(CheckpointError, match=f"expected one trained for {family} as")
    with outcome:
        read_hq_token(
            tmp_path / "tuned.safetensors", embed_dim=TINY.embed_dim, token_fusion="independent", family=family
        )


@pytest.mark.parametrize("name", ["token.npy", "token.safetensors"])
def test_unreadable_tokens(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a token")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read(tmp_path / name)


def test_official_model_in_memory(tmp_path: Path) -> None:
    sam = official_sam(import_official(), TINY)
    randomise(sam, seed=7)
    torch.save(sam.state_dict(), tmp_path / "same.pth")
    result = export_bundle(ExportConfig(output=tmp_path / "bundle"), model=sam)
    assert result.manifest.checkpoint.keys() == {"file", "sha256"}
    assert result.manifest.checkpoint["file"] == "Sam object"
    np.testing.assert_array_equal(
        logits_of(load_bundle(result.path)), logits_of(export(tmp_path / "same.pth", tmp_path / "from_file"))
    )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give ExportConfig.output"),
        ({"output": Path("bundle"), "checkpoint": Path("sam_hq_vit_b.pth")}, "sam_hq_vit_b.pth"),
    ],
)
def test_a_model_in_memory_has_no_file_and_no_name(
    options: dict[str, Path], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=complaint):
        export_bundle(ExportConfig(**options), model=torch.nn.Identity())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
