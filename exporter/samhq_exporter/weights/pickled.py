"""Files of `torch.save` -> what they hold, with no code of theirs run.

Training programs store more than weights: options, numpy scalars, states of schedulers. Objects of the modules in
`_DATA` are read as `_StandIn`s that do nothing, so nothing of those modules is imported or called; anything else that
is not a tensor or a plain value is refused by its name.
"""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path

import torch

from samhq_runtime.errors import CheckpointError, reason_of

_DATA = (
    "_codecs", "addict", "argparse", "box", "collections", "datetime", "easydict", "enum", "lightning",
    "lightning_fabric", "ml_collections", "mmcv", "mmengine", "numpy", "omegaconf", "pathlib", "pytorch_lightning",
    "torch.optim", "torch.torch_version", "types.SimpleNamespace", "typing", "yacs",
)  # fmt: skip
_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


class _StandIn:
    """In the place of an object that is no weight: takes what its class would be called and filled with."""

    def __new__(cls, *_args: object, **_options: object) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_options: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


def read_pickled(path: Path) -> object:
    """What `torch.load(path, weights_only=True)` gives, with stand-ins for the objects of training programs.

    Raises:
        CheckpointError: damaged, or it holds objects of other modules, which may hold code.
    """
    names = _globals_in(path)
    unknown = [name for name in names if not _is_data(name)]
    if unknown:
        raise CheckpointError(_refusal(path, unknown))
    try:
        with torch.serialization.safe_globals([_stand_in(name) for name in names]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol; our own message follows
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        found = _REFUSED.search(str(e))
        raise CheckpointError(_refusal(path, [found[1]] if found else [])) from e
    except Exception as e:  # torch's unpickler lets any exception out of a damaged file
        raise CheckpointError(
            f"{path.name}: cannot be read as a checkpoint ({reason_of(e)}); it may be truncated, download it again"
        ) from e


def _globals_in(path: Path) -> list[str]:
    """Names of what is neither tensor nor plain value; none for torch's old format, whose reader names the first."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        return []  # damaged, or of the old format: whoever reads it says so


def _is_data(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in _DATA)


def _stand_in(name: str) -> type[_StandIn]:
    module, _, attribute = name.rpartition(".")
    return type(attribute, (_StandIn,), {"__module__": module})


def _refusal(path: Path, names: list[str]) -> str:
    """Names the objects, and says how whoever trusts the file gets at its weights."""
    of_what = f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
    whole = any(name.startswith(("torch.nn.", "segment_anything")) for name in names)
    weights = "content.state_dict()" if whole else 'content["model"]'
    key = "" if whole else "  # or the key that holds the weights"
    return (
        f"{path.name}: refused, it holds objects besides tensors{of_what}, so it may hold code; expected a state dict "
        "saved with torch.save or safetensors. If you trust it, save its weights alone where its program runs:\n"
        "    import torch\n"
        f'    content = torch.load("{path.name}", map_location="cpu", weights_only=False)\n'
        f'    torch.save({weights}, "weights.pth"){key}'
    )
