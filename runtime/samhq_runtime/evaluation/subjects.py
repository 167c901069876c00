"""The columns of a report: every bundle under every choice of providers, each with a name of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle, load_bundle
from ..errors import ConfigError
from ..predictor import Predictor
from ..session.providers import Providers, names_by_graph, run_engines, text_of


@dataclass(frozen=True)
class Subject:
    """One column: a bundle under one choice of providers, where `auto` is replaced by what it stands for here."""

    name: str
    bundle: Bundle
    providers: tuple[str, ...]

    def open(self, threads: int) -> Predictor:
        return Predictor(self.bundle, providers=self.providers, threads=threads)

    def content_sha256(self) -> str:
        """Of all the masks depend on: engines count only where they run, so that building one changes nothing else."""
        manifest = self.bundle.manifest
        engines_run = any(map(run_engines, names_by_graph(self.providers).values()))
        files = manifest.files if engines_run else manifest.lasting_files
        hashes = {name: entry.sha256 for name, entry in files.items()}
        parts = [hashes, manifest.pixel_mean, manifest.pixel_std, manifest.mask_threshold]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def open_subjects(bundles: Sequence[Bundle | str | Path], providers: Sequence[Providers]) -> list[Subject]:
    """Load every bundle; ConfigError if none is given or one is given twice."""
    loaded = [bundle if isinstance(bundle, Bundle) else load_bundle(bundle) for bundle in bundles]
    paths = [bundle.path.resolve() for bundle in loaded]
    choices = [text_of(names_by_graph(choice)) for choice in providers]
    for what, given in (("bundle", paths), ("choice of providers", choices)):
        if not given or len(set(given)) < len(given):
            listed = ", ".join(map(str, given)) or "none"
            raise ConfigError(f"{what}: got {listed}; expected one or more, each once")
    return [
        Subject(name + _suffix(choice, choices), bundle, tuple(str(bundle.ways(choice)).split(",")))
        for name, bundle in zip(_short_names(paths), loaded, strict=True)
        for choice in choices
    ]


def _suffix(choice: str, choices: Sequence[str]) -> str:
    return f" [{choice}]" if len(choices) > 1 else ""


def _short_names(paths: Sequence[Path]) -> list[str]:
    """As many of the last folders of each path as tell them all apart."""
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]
