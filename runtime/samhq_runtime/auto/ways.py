"""How the two graphs of a bundle run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import ConfigError
from ..manifest import Manifest
from ..session.protocol import ProviderOptions
from ..session.providers import AUTO, Providers, names_by_graph, text_of
from .rule import by_rule


@dataclass(frozen=True)
class Way:
    """How one graph runs: its providers in order of preference, and threads of those on the CPU, 0 for the default."""

    providers: tuple[str, ...]
    threads: int = 0


@dataclass(frozen=True)
class Ways:
    """How both run: by graph; and the prompts of one decoder call, if anything speaks for a number."""

    by_graph: Mapping[str, Way]
    prompts_per_call: int | None = None

    def __str__(self) -> str:
        """The providers, in the form that `providers=` and `--providers` take."""
        return text_of(self.providers)

    @property
    def providers(self) -> dict[str, tuple[str, ...]]:
        return {graph: way.providers for graph, way in self.by_graph.items()}

    def require_chosen(self, provider_options: ProviderOptions | None) -> None:
        """Raise ConfigError for options of a provider that neither graph runs on."""
        chosen = dict.fromkeys(name for names in self.providers.values() for name in names)
        unasked = [name for name in provider_options or {} if name not in chosen]
        if unasked:
            raise ConfigError(f"provider option of {unasked[0]!r}: expected one of the providers {', '.join(chosen)}")


def ways_of(bundle: Path, manifest: Manifest, providers: Providers, threads: int = 0) -> Ways:
    """The ways that a caller asked for; `auto` is replaced by what it stands for here.

    Args:
        bundle: its folder.
        manifest: what that holds.
        providers: in any form, see `names_by_graph`.
        threads: of every way on the CPU; 0 leaves the number to what `auto` found, or to the backend.

    Raises:
        ConfigError: providers of no such form.
    """
    names = names_by_graph(providers)
    ways = {graph: Way(chosen, threads) for graph, chosen in names.items()}
    found = {graph for graph, chosen in names.items() if chosen == (AUTO,)}
    if not found:
        return Ways(ways)
    auto = Ways({graph: Way(chosen) for graph, chosen in by_rule(bundle, manifest).items()})
    for graph in found:
        ways[graph] = replace(auto.by_graph[graph], threads=threads or auto.by_graph[graph].threads)
    return Ways({graph: ways[graph] for graph in (IMAGE_ENCODER, MASK_DECODER)}, auto.prompts_per_call)
