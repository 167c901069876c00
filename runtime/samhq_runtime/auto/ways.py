"""How the two graphs of a bundle run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError
from ..session.protocol import ProviderOptions
from ..session.providers import text_of


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
