"""Tuned HQ tokens and models in memory: other ways in, same results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, export
from official import import_official
from parity import randomise
from reference import official_sam
from safetensors.numpy import save_file

from samhq_exporter.config import ExportConfig
from samhq_exporter.pipeline import export_bundle
from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.errors import CheckpointError
from samhq_runtime.hq_token import read_hq_token

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
TOKEN = np.random.default_rng(1).normal(size=(1, TINY.embed_dim)).astype(np.float32)


def logits_of(bundle: Bundle, hq_token: object = None) -> np.ndarray:
    with Predictor(bundle, hq_token=hq_token) as predictor:  # type: ignore[arg-type]
        predictor.set_image(IMAGE)
        return predictor.predict(box=[10, 10, 100, 70], multimask_output=False)[2]


def test_tuned_token_at_export_and_at_run_time(tiny_checkpoint: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    save_file({"hq_token": TOKEN, "other": TOKEN[0]}, tmp_path / "tuned.safetensors")
    exported = logits_of(export(tiny_checkpoint, tmp_path / "bundle", hq_token=tmp_path / "tuned.safetensors"))
    swapped = logits_of(tiny_bundle, tmp_path / "tuned.safetensors")
    assert np.abs(swapped - logits_of(tiny_bundle)).max() > 1e-2
    np.testing.assert_allclose(swapped, exported, atol=1e-5)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": TOKEN, "b": TOKEN}, "expected one tensor"),
        ({"hq_token": TOKEN[:, :5]}, r"expected 64 finite floats"),
        ({"hq_token": TOKEN * np.nan}, "finite"),
        ({"hq_token": TOKEN.astype(np.int32)}, "int32"),
    ],
)
def test_bad_tokens(tensors: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=message):
        read_hq_token(tmp_path / "bad.safetensors", embed_dim=TINY.embed_dim)


@pytest.mark.parametrize("name", ["token.npy", "token.safetensors"])
def test_unreadable_tokens(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a token")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_hq_token(tmp_path / name, embed_dim=TINY.embed_dim)


def test_official_model_in_memory(tmp_path: Path) -> None:
    sam = official_sam(import_official(), TINY)
    randomise(sam, seed=7)
    torch.save(sam.state_dict(), tmp_path / "same.pth")
    result = export_bundle(ExportConfig(output=tmp_path / "bundle"), model=sam)
    assert result.manifest.checkpoint["file"] == "Sam object"
    np.testing.assert_array_equal(
        logits_of(load_bundle(result.path)), logits_of(export(tmp_path / "same.pth", tmp_path / "from_file"))
    )
