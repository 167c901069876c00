"""The names of providers beside ONNX Runtime's (`ort_providers`): `openvino`, and those that run engines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ConfigError
from ..nvidia.flavour import FLAVOURS
from .protocol import ProviderOptions

OPENVINO = "openvino"  # and `openvino[:DEVICE][:PRECISION]`
# And the flavour of engine they insist on.
ENGINE_PROVIDERS = {"engine": None, **{f"engine:{flavour}": flavour for flavour in FLAVOURS}}


def run_engines(providers: Iterable[str]) -> bool:
    """Whether a provider among these runs engines instead of graphs."""
    return any(name in ENGINE_PROVIDERS for name in providers)


def run_openvino(providers: Iterable[str]) -> bool:
    """Whether a provider among these is OpenVINO, on whatever device."""
    return any(name.partition(":")[0] == OPENVINO for name in providers)


def require_chosen(provider_options: ProviderOptions | None, providers: Sequence[str]) -> None:
    """Raise ConfigError for options of a provider that is not asked for."""
    unasked = [name for name in provider_options or {} if name not in providers]
    if unasked:
        raise ConfigError(f"provider option of {unasked[0]!r}: expected one of the providers {', '.join(providers)}")
