"""Models in memory: what wraps them is taken off, and what is no SAM is said to be so."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from samhq_exporter.config import ExportConfig
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.weights.checkpoint import checkpoint_of_model
from samhq_runtime.errors import ConfigError
from tests.support.models import State


class Holder(nn.Module):
    """A training program's module around the model."""

    def __init__(self, sam: nn.Module) -> None:
        super().__init__()
        self.sam = sam


class Official(nn.Module):
    """A module with the official tensors and names."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for key, value in state.items():
            *path, name = key.split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module._modules[part]  # type: ignore[assignment]
            module.register_parameter(name, nn.Parameter(value))


def distributed(model: nn.Module) -> nn.Module:
    """As `torchrun` of one process wraps it."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(model)
    finally:
        torch.distributed.destroy_process_group()


MODELS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "as it is": lambda m: m,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": distributed,
    "compiled": torch.compile,
    "compiled DataParallel": lambda m: torch.compile(nn.DataParallel(m)),
    "held by another": Holder,
}


@pytest.mark.parametrize("case", MODELS)
def test_models_in_memory_are_unwrapped(state: State, case: str) -> None:
    official = Official(state)
    checkpoint, plain = checkpoint_of_model(MODELS[case](official)), checkpoint_of_model(official)
    assert checkpoint.sha256 == plain.sha256
    assert checkpoint.file_name == ("Holder object" if case == "held by another" else "Official object")


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (types.SimpleNamespace(model=nn.Identity()), r"got a SimpleNamespace.*give its \.model"),
        ({"a": torch.zeros(1)}, "got a dict, expected a Sam object.*its state dict as a file"),
        (Path("m.pth"), "its state dict as a file"),
        (type("SamHQModel", (nn.Module,), {"__module__": "transformers.models.sam_hq"})(), "save_pretrained"),
    ],
)
def test_models_that_are_none(tmp_path: Path, model: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        export_bundle(ExportConfig(output=tmp_path / "out"), model=model)
    assert not (tmp_path / "out").exists()
