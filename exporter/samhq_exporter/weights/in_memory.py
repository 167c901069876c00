"""A model in memory -> its weights under official names, out of whatever it is wrapped in."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from samhq_runtime.errors import ConfigError

from .names import official_state
from .plain_tensors import require_weights


def weights_of(model: object) -> tuple[dict[str, Tensor], Path]:
    """Its tensors, not copied, and its class as a name for messages.

    `DataParallel`, `DistributedDataParallel` and compiled models, and modules that hold a SAM under one name, count as
    the SAM inside.

    Raises:
        ConfigError: not a module, a `transformers` model, or the predictor around a model.
        CheckpointError: its tensors are no plain weights, or of an adapted or foreign model.
    """
    if not isinstance(model, nn.Module):
        held = getattr(model, "model", None)
        cure = "give its .model" if isinstance(held, nn.Module) else "give the module, or its state dict as a file"
        raise ConfigError(f"model=: got a {type(model).__name__}, expected a Sam object (torch.nn.Module); {cure}")
    inner = _unwrapped(model)
    if type(inner).__module__.startswith("transformers."):
        raise ConfigError(
            f"model=: a transformers {type(inner).__name__}; save it with model.save_pretrained('folder') and give "
            "that folder as the checkpoint"
        )
    name = Path(f"{type(inner).__name__} object")
    state = official_state(inner.state_dict(), name)
    require_weights(state, name)
    return state, name


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module inside `torch.compile`'s and the parallel ones, for its name; official_state renames its tensors."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner
