"""From what a caller asked for to ways."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..manifest import Manifest
from ..session.providers import AUTO, Providers, names_by_graph
from .ways import Way, Ways

_log = logging.getLogger(__name__)


def ways_of(bundle: Path, manifest: Manifest, providers: Providers, threads: int = 0) -> Ways:
    """The ways that a caller asked for; in the place of `auto` the stored choice, or else the rule's.

    Args:
        bundle: its folder.
        manifest: what that holds.
        providers: in any form, see `names_by_graph`.
        threads: of every way on the CPU; 0 leaves the number to the stored choice, or to the backend.

    Raises:
        ConfigError: providers of no such form.
    """
    names = names_by_graph(providers)
    ways = {graph: Way(chosen, threads) for graph, chosen in names.items()}
    found = {graph for graph, chosen in names.items() if chosen == (AUTO,)}
    if not found:
        return Ways(ways)
    from .rule import by_rule  # like the store: most programs name their providers, and need neither

    auto = stored_ways(bundle) or Ways({graph: Way(chosen) for graph, chosen in by_rule(bundle, manifest).items()})
    for graph in found:
        ways[graph] = replace(auto.by_graph[graph], threads=threads or auto.by_graph[graph].threads)
    return Ways({graph: ways[graph] for graph in (IMAGE_ENCODER, MASK_DECODER)}, auto.prompts_per_call)


def stored_ways(bundle: Path) -> Ways | None:
    """What `samhq tune` stored for this bundle on this machine; None, with a notice if it was for something else."""
    from .store import load

    return load(bundle, _warn_once)


@cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)
