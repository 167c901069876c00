"""A tuned HQ token in the place of a checkpoint's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from samhq_runtime.files import sha256_of
from samhq_runtime.hq_token import read_hq_token

from .checkpoint import Checkpoint, SourceFile


def with_hq_token(checkpoint: Checkpoint, file: Path) -> Checkpoint:
    """`checkpoint`, its model changed in place, with the HQ token of `file`.

    Raises:
        ConfigError: the checkpoint is of a plain SAM.
        CheckpointError: the file holds no token that fits.
    """
    token = checkpoint.hq_token_weight
    sam, fusion = checkpoint.sam, checkpoint.token_fusion
    tuned = read_hq_token(file, embed_dim=sam.arch.embed_dim, token_fusion=fusion, family=sam.family)
    token.copy_(torch.from_numpy(tuned))
    return replace(checkpoint, hq_token=SourceFile(file.name, sha256_of(file)))
