"""A bundle folder, verified: the way in for every runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..auto import Way, Ways, ways_of
from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import BackendUnavailable, BundleError, ConfigError
from ..manifest import EngineEntry, Manifest, read_manifest
from ..session import ProviderOptions, Session, open_session
from ..session.ort_providers import NOT_ON_CPU
from ..session.providers import ENGINE_PROVIDERS, Providers, require_chosen, run_engines, run_openvino
from .copies import copy_of, has_links
from .files import Stamp, stamp_of, stamps_of, verify_files


@dataclass(frozen=True)
class Bundle:
    """Two graphs and their manifest, every file hashed against it.

    `private` and `verify_key` are as `load_bundle` takes them; `stamps` are of its files before they
    were hashed.
    """

    path: Path
    manifest: Manifest
    private: bool = False
    verify_key: Path | None = None
    stamps: Mapping[Path, Stamp] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its path and options; read and verified again where it is opened."""
        key = self.verify_key and self.verify_key.absolute()
        return partial(load_bundle, private=self.private, verify_key=key), (self.path.absolute(),)

    @property
    def graph_files(self) -> dict[str, Path]:
        """The portable form of each graph, by name."""
        return {name: self.path / entry.file for name, entry in self.manifest.graphs.items()}

    def require_unchanged(self) -> None:
        """BundleError if a file was replaced or written to since it was hashed; one that is gone is still mapped."""
        for path, stamp in () if self.private else self.stamps.items():
            if stamp_of(path) not in (stamp, None):
                raise BundleError(
                    f"{path.name}: changed since it was loaded, and sessions read it in place; load the bundle again, "
                    "and replace bundles whole: write a new folder, rename it, restart"
                )

    def ways(self, providers: Providers = ("cpu",), threads: int = 0) -> Ways:
        """How the graphs would run with these arguments of `open`: what `auto` stands for here."""
        return ways_of(self.path, self.manifest, providers, threads)

    def open(
        self,
        graph: str,
        *,
        providers: Providers = ("cpu",),
        threads: int = 0,
        provider_options: ProviderOptions | None = None,
    ) -> Session:
        """Open one graph of the bundle, `image_encoder` or `mask_decoder`.

        Args:
            graph: its name.
            providers: ONNX Runtime's, see `open_session`; or `engine` alone, for the TensorRT engine of that graph
                (`engine:tensorrt` or `engine:rtx` where the bundle has both); or `auto`. May say encoder and decoder
                apart, see `names_by_graph`.
            threads: CPU threads inside one operator; 0 means one per physical core, or what `auto` found. Engines
                ignore it.
            provider_options: options by provider; engines take `device_id`, `contexts` and `cuda_graph`.
        """
        way = self.ways(providers, threads).by_graph[graph]
        require_chosen(provider_options, way.providers)
        return self._open(graph, way, provider_options or {})

    def open_both(self, ways: Ways, *, provider_options: ProviderOptions | None = None) -> tuple[Session, Session]:
        """Open encoder and decoder; each takes the options of its own providers."""
        ways.require_chosen(provider_options)
        encoder, decoder = (
            self._open(graph, ways.by_graph[graph], provider_options or {}) for graph in (IMAGE_ENCODER, MASK_DECODER)
        )
        return encoder, decoder

    def _open(self, graph: str, way: Way, provider_options: ProviderOptions) -> Session:
        providers = way.providers
        options = {name: values for name, values in provider_options.items() if name in providers}
        if not run_engines(providers):
            entry = self.manifest.graphs[graph]
            if self.manifest.precision in NOT_ON_CPU and providers[:1] == ("cpu",):
                raise BackendUnavailable(
                    f"{self.path}: {self.manifest.precision} graphs cannot run on the CPU, ONNX Runtime has no kernels "
                    f"for them; build engines (samhq engine {self.path}), or export with --precision fp32 or int8"
                )
            file = entry.cpu_file if entry.cpu_file and providers == ("cpu",) else entry.file
            copied = self.private or (run_openvino(providers) and has_links(self.path))
            with copy_of(self.path, file, self.manifest) if copied else nullcontext(self.path) as folder:
                return open_session(
                    folder / file, entry.spec, providers=providers, threads=way.threads, provider_options=options
                )
        engine = self.engine(graph, providers)
        from ..session.trt import RunOptions, TrtSession

        return TrtSession(self.path, self.manifest, engine, RunOptions.parse(options.get(providers[0], {})))

    def engine(self, graph: str, providers: Sequence[str]) -> EngineEntry:
        """The engine of a graph that `providers` ask for.

        Raises:
            ConfigError: it stands beside other providers, or does not say which of two.
            BundleError: the bundle has none; the message has the command that builds it.
        """
        if len(providers) != 1:
            raise ConfigError(f"providers {','.join(providers)}: an engine stands alone; it falls back to nothing")
        wanted = ENGINE_PROVIDERS[providers[0]]
        found = [e for e in self.manifest.engines.values() if e.graph == graph and wanted in (None, e.flavour)]
        if not found:
            target = f" --target {wanted}" if wanted else ""
            raise BundleError(f"{self.path}: no engine of {graph}; build it: samhq engine {self.path}{target}")
        if len(found) > 1:
            choices = " or ".join(f"engine:{entry.flavour}" for entry in found)
            raise ConfigError(f"{self.path}: several engines of {graph}; ask for {choices}")
        return found[0]


def load_bundle(path: str | Path, *, verify_key: str | Path | None = None, private: bool = False) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: its folder.
        verify_key: a PEM file with an Ed25519 public key; the bundle must be signed with its private half. Without it
            the hashes say that the bundle is whole, not who made it.
        private: sessions open a copy of their files, made and hashed for them in the folder for temporary files and
            removed once open, so that nothing that happens to the bundle reaches them. Backends map weights into
            memory: written to in place, a file changes under a session, and cut short it ends the process.

    Raises:
        BundleError: not a bundle, of another schema, a file missing, damaged, or outside the folder; not signed so.
        ConfigError: `verify_key` is no such key.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; expected a bundle written by `samhq-export`")
    if verify_key is not None:
        from .signing import require_signature

        require_signature(folder, Path(verify_key))
    manifest = read_manifest(folder)
    stamps = stamps_of(folder, manifest)
    verify_files(folder, manifest)
    return Bundle(folder, manifest, private, None if verify_key is None else Path(verify_key), stamps)
