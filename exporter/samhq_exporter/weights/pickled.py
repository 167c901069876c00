"""Files of `torch.save` -> what they hold, with no code of theirs run.

Training programs store more than weights: options, numpy scalars, states of schedulers. Objects of the modules in
`_DATA` are read as `_StandIn`s that do nothing, so nothing of those modules is imported or called; anything else that
is not a tensor or a plain value is refused by its name.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path

import torch

from samhq_runtime.errors import CheckpointError, reason_of

_DATA = (
    "_codecs", "addict", "argparse", "box", "collections", "datetime", "easydict", "enum", "lightning",
    "lightning_fabric", "ml_collections", "mmcv", "mmengine", "numpy", "omegaconf", "pathlib", "pytorch_lightning",
    "torch.optim", "torch.torch_version", "types.SimpleNamespace", "typing", "yacs",
    "builtins.bool", "builtins.bytearray", "builtins.complex", "builtins.dict", "builtins.float", "builtins.frozenset",
    "builtins.int", "builtins.list", "builtins.object", "builtins.set", "builtins.str", "builtins.tuple",
)  # fmt: skip
_MAPPING = re.compile(r"([Dd]ict|CfgNode|Box)$")  # classes of dictionaries, which may hold weights
_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")
_REASON = re.compile(r"WeightsUnpickler error:\s*(.+)")
_MOST_NAMES = 50


class _StandIn:
    """In the place of an object that is no weight: takes what its class would be called and filled with."""

    def __new__(cls, *_args: object, **_options: object) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_options: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


class _MappingStandIn:
    """Of a class of dictionaries: becomes a plain one, which the file fills."""

    def __new__(cls, *_args: object, **_options: object) -> OrderedDict[object, object]:  # type: ignore[misc]
        return OrderedDict()


def read_pickled(path: Path) -> object:
    """What `torch.load(path, weights_only=True)` gives, with stand-ins for the objects of training programs.

    Raises:
        CheckpointError: damaged, or it holds objects of other modules, which may hold code.
    """
    names = _globals_in(path)
    unknown = [name for name in names if not _is_data(name)]
    if unknown:
        raise CheckpointError(_refusal(path, ", ".join(unknown[:3])))
    try:
        while True:
            try:
                return _load(path, names)
            except pickle.UnpicklingError as e:
                found = _REFUSED.search(str(e))  # in a file whose names could not be listed
                if not found or not _is_data(found[1]) or found[1] in names or len(names) > _MOST_NAMES:
                    reason = found or _REASON.search(str(e))
                    raise CheckpointError(_refusal(path, reason[1] if reason else reason_of(e))) from e
                names.append(found[1])
    except CheckpointError:
        raise
    except Exception as e:  # torch's unpickler lets any exception out of a damaged file
        raise CheckpointError(
            f"{path.name}: cannot be read as a checkpoint ({reason_of(e)}); it may be truncated, download it again"
        ) from e


def _load(path: Path, names: list[str]) -> object:
    with torch.serialization.safe_globals([_stand_in(name) for name in names]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the pickle protocol; our own message follows
        return torch.load(path, map_location="cpu", weights_only=True)


def _globals_in(path: Path) -> list[str]:
    """Names of what is neither tensor nor plain value; none for torch's old format, whose reader names the first."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        return []  # damaged, or of the old format: whoever reads it says so


def _is_data(name: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in _DATA)


def _stand_in(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    kind = _MappingStandIn if _MAPPING.search(attribute) else _StandIn
    return type(attribute, (kind,), {"__module__": module})


def _refusal(path: Path, what: str) -> str:
    """Names the objects, and says how whoever trusts the file gets at its weights."""
    whole = "torch.nn." in what or "segment_anything" in what
    weights = "content.state_dict()" if whole else 'content["model"]'
    key = "" if whole else "  # or the key that holds the weights"
    return (
        f"{path.name}: refused, it holds more than tensors ({what}), so it may hold code; expected a state dict "
        "saved with torch.save or safetensors. If you trust it, save its weights alone where its program runs:\n"
        "    import torch\n"
        f'    content = torch.load("{path.name}", map_location="cpu", weights_only=False)\n'
        f'    torch.save({weights}, "weights.pth"){key}'
    )
