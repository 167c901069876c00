"""Weights files that were cast and exported, ended in a traceback, or took gigabytes before they were refused."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from samhq_exporter.model import Sam
from samhq_exporter.weights.checkpoint import load_checkpoint, to_official_keys
from samhq_exporter.weights.huggingface_config import _sizes_of, check_config
from samhq_runtime.errors import CheckpointError
from samhq_runtime.hq_token import read_hq_token
from tests.support.models import tiny_sam

NAME = "mask_decoder.iou_token.weight"


@pytest.fixture(scope="module")
def sam() -> Sam:
    return tiny_sam()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.bool(), "of torch.bool"),
        (lambda t: t.to(torch.int8), "of torch.int8"),
        (lambda t: t.to(torch.int64), "of torch.int64"),
        (lambda t: t.to(torch.complex64), "of torch.complex64"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantized"),
        (lambda t: t.to_sparse(), "sparse"),
        (lambda t: t.to_sparse_csr(), "sparse"),
        (lambda t: t.to("meta"), "a meta tensor"),
        (lambda t: torch.nested.nested_tensor([t[0], t[0]]), "nested"),
        (lambda t: torch.zeros(1).expand(1 << 30), "stand for 4"),
    ],
)
def test_what_is_no_plain_weight(sam: Sam, tmp_path: Path, change: Callable[[Tensor], Tensor], complaint: str) -> None:
    state = to_official_keys(sam.state_dict())
    state[NAME] = change(state[NAME])
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(tmp_path / "weights.pth")


LOAD = """
import sys
from pathlib import Path
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.errors import CheckpointError
try:
    load_checkpoint(Path(sys.argv[1]))
except CheckpointError as e:
    print(e)
"""


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    """Refused from its headers, in a process that could not hold what is inside."""
    bomb = tmp_path / "weights.pth"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("archive/data/0", "w", force_zip64=True) as entry,
    ):
        for _ in range(64):
            entry.write(bytes(1 << 24))  # 1 GB
    with zipfile.ZipFile(bomb, "a") as archive:
        archive.writestr("archive/data.pkl", b"")
    limit = 1 << 30
    child = subprocess.run(
        [sys.executable, "-c", LOAD, str(bomb)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        text=True,
    )
    assert "an archive that is compressed" in child.stdout, child.stderr


@pytest.mark.parametrize("ratio", [None, "4", float("nan"), 1e308, -1, True])
def test_ratios_that_are_none(ratio: Any, sam: Sam) -> None:
    state = to_official_keys(sam.state_dict())
    config: dict[str, Any] = {"model_type": "sam_hq", **_sizes_of(state, hq=True)}
    del config["vision_config"]["mlp_dim"]
    config["vision_config"]["mlp_ratio"] = ratio
    with pytest.raises(CheckpointError, match="mlp_ratio"):
        check_config(config, state, Path("folder"))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors.index.json"])
def test_json_nested_without_end(tmp_path: Path, file: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "sam_hq"}))
    (tmp_path / file).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_token_files(tmp_path: Path, seed: int) -> None:
    """Any byte changed or the file cut: a token that is read whole, or one refusal."""
    rng = np.random.default_rng(seed)
    np.save(tmp_path / "token.npy", np.ones((1, 64), np.float32))
    content = bytearray((tmp_path / "token.npy").read_bytes())
    for position in rng.integers(0, 128, 3):
        content[position] = rng.integers(0, 256)
    (tmp_path / "token.npy").write_bytes(content[: rng.integers(1, len(content))] if seed % 4 == 0 else content)
    with suppress(CheckpointError):
        assert read_hq_token(tmp_path / "token.npy", embed_dim=64, token_fusion="sum").shape == (1, 64)
