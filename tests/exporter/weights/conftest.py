"""The tiny model's state dict under its official names, and a tiny transformers model in a folder."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from samhq_exporter.weights.checkpoint import to_official_keys
from tests.support.models import State, tiny_sam
from tests.support.official import declare_torchvision_operators
from tests.support.transformers_reference import TINY, sam_hq_of


@pytest.fixture
def state() -> State:
    return to_official_keys(tiny_sam().state_dict())


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    declare_torchvision_operators()
    module = pytest.importorskip("transformers", reason="transformers, the reference of this test, is not installed")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return module


@pytest.fixture(scope="module")
def tiny(transformers: ModuleType) -> nn.Module:
    return sam_hq_of(transformers, TINY)


@pytest.fixture
def folder(tiny: nn.Module, tmp_path: Path) -> Path:
    tiny.save_pretrained(tmp_path)
    return tmp_path
