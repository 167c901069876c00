"""The names of providers beside ONNX Runtime's (`ort_providers`), and the forms in which a caller may give names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import ConfigError
from ..nvidia.flavour import FLAVOURS
from .protocol import ProviderOptions

# Of both graphs, as a sequence or as text; or of each, as a mapping or as text. See `names_by_graph`.
Providers: TypeAlias = "str | Sequence[str] | Mapping[str, str | Sequence[str]]"

AUTO = "auto"  # stands for whatever suits this machine
OPENVINO = "openvino"  # and `openvino[:DEVICE][:PRECISION]`
# And the flavour of engine they insist on.
ENGINE_PROVIDERS = {"engine": None, **{f"engine:{flavour}": flavour for flavour in FLAVOURS}}


def names_by_graph(providers: Providers) -> dict[str, tuple[str, ...]]:
    """The names for each graph.

    `("cuda", "cpu")` and `"cuda,cpu"` are of both graphs, in order of preference. `"openvino/cpu"` is the encoder's and
    the decoder's, as is `{"image_encoder": "openvino", "mask_decoder": ("cpu",)}`.

    Raises:
        ConfigError: of another form; whether the names exist is the session's business.
    """
    graphs = (IMAGE_ENCODER, MASK_DECODER)
    if isinstance(providers, Mapping):
        if set(providers) != set(graphs):
            raise ConfigError(f"providers: got those of {', '.join(providers)}, expected of {' and '.join(graphs)}")
        given = [_joined(providers[graph]) for graph in graphs]
    else:
        parts = _joined(providers).split("/")
        if len(parts) > len(graphs):
            raise ConfigError(f"providers {'/'.join(parts)}: expected at most two parts, ENCODER/DECODER")
        given = [parts[0], parts[-1]]
    names = {graph: tuple(text.split(",")) if text else () for graph, text in zip(graphs, given, strict=True)}
    mixed = [",".join(found) for found in names.values() if AUTO in found and len(found) > 1]
    if mixed:
        raise ConfigError(f"providers {mixed[0]}: {AUTO} stands alone, it chooses among all others")
    return names


def text_of(names: Mapping[str, Sequence[str]]) -> str:
    """As `names_by_graph` reads it: `cuda,cpu`, or `openvino/cpu` where the two graphs differ."""
    encoder, decoder = (_joined(names[graph]) for graph in (IMAGE_ENCODER, MASK_DECODER))
    return encoder if encoder == decoder else f"{encoder}/{decoder}"


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


def _joined(names: str | Sequence[str]) -> str:
    return names if isinstance(names, str) else ",".join(names)
