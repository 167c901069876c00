"""A bundle folder, verified: the way in for every runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import BackendUnavailable, BundleError, ConfigError
from ..manifest import EngineEntry, Manifest, read_manifest
from ..session import ProviderOptions, Session, open_session
from ..session.providers import ENGINE_PROVIDERS, require_chosen, run_engines, run_openvino
from .copies import copy_of, has_links
from .files import Stamp, stamp_of, stamps_of, verify_files

NOT_ON_CPU = frozenset({"bf16"})  # precisions whose graphs need a GPU: ONNX Runtime's CPU provider lacks the kernels


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

    def open(
        self,
        graph: str,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int = 0,
        provider_options: ProviderOptions | None = None,
    ) -> Session:
        """Open one graph of the bundle, `image_encoder` or `mask_decoder`.

        Args:
            graph: its name.
            providers: ONNX Runtime's, see `open_session`; or `engine` alone, for the TensorRT engine of that graph
                (`engine:tensorrt` or `engine:rtx` where the bundle has both).
            threads: CPU threads inside one operator; 0 means one per physical core. Engines ignore it.
            provider_options: options by provider; engines take `device_id`, `contexts` and `cuda_graph`.
        """
        require_chosen(provider_options, providers)
        if not run_engines(providers):
            entry = self.manifest.graphs[graph]
            if self.manifest.precision in NOT_ON_CPU and providers[0] == "cpu":
                raise BackendUnavailable(
                    f"{self.path}: {self.manifest.precision} graphs cannot run on the CPU, ONNX Runtime has no kernels "
                    f"for them; build engines (samhq engine {self.path}), or export with --precision fp32 or int8"
                )
            file = entry.cpu_file if entry.cpu_file and tuple(providers) == ("cpu",) else entry.file
            copied = self.private or (run_openvino(providers) and has_links(self.path))
            with copy_of(self.path, file, self.manifest) if copied else nullcontext(self.path) as folder:
                return open_session(
                    folder / file,
                    entry.spec,
                    providers=providers,
                    threads=threads,
                    provider_options=provider_options,
                )
        engine = self.engine(graph, providers)
        from ..session.trt import RunOptions, TrtSession

        options = RunOptions.parse((provider_options or {}).get(providers[0], {}))
        return TrtSession(self.path, self.manifest, engine, options)

    def open_both(
        self,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int = 0,
        provider_options: ProviderOptions | None = None,
    ) -> tuple[Session, Session]:
        """Open encoder and decoder."""
        encoder, decoder = (
            self.open(graph, providers=providers, threads=threads, provider_options=provider_options)
            for graph in (IMAGE_ENCODER, MASK_DECODER)
        )
        return encoder, decoder

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
