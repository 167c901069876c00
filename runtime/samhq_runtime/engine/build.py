"""Build TensorRT engines from a bundle's graphs. Needs numpy and TensorRT; no torch, no onnx.

Checking them on the GPU also needs cuda-bindings, and compares with ONNX Runtime if that is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..bundle import Bundle, load_bundle
from ..bundle.files import verify_files
from ..callbacks import Notice, Show
from ..errors import ConfigError
from ..manifest import EngineEntry, GraphEntry, read_manifest
from ..nvidia.compatibility import current_platform
from ..nvidia.flavour import FLAVOURS, Flavour, TensorRT, load_tensorrt
from ..nvidia.float8 import for_float8
from ..nvidia.options import EngineOptions
from ..nvidia.profiles import Profile, Range, profiles_of
from .builder import ParsedGraph, build_plan, parse_graph
from .gate import check_engines, require_checkable, verify_engines
from .progress import run_interruptible
from .store import PlanFile, StagedEngine, add_engines, engine_file_name, staging_folder, write_errors
from .timing_cache import TimingCache, timing_cache_folder

Progress = Callable[[str], AbstractContextManager[Show]]


@dataclass(frozen=True)
class BuiltEngine:
    """One engine that is now in the bundle."""

    entry: EngineEntry
    bytes: int
    seconds: float


@contextmanager
def no_progress(label: str) -> Iterator[Show]:
    """Builds in silence."""
    yield lambda fraction, phase: None


def build_engines(
    bundle: Bundle | str | Path,
    *,
    target: str | Flavour = "tensorrt",
    graphs: Sequence[str] = (),
    ranges: Mapping[str, tuple[Range, ...]] | None = None,
    options: EngineOptions | None = None,
    overwrite: bool = False,
    verify: bool = True,
    progress: Progress = no_progress,
    notice: Notice = lambda text: None,
) -> list[BuiltEngine]:
    """Build the engines of a bundle, check them where there is a GPU, and enter them in its manifest.

    Args:
        bundle: a folder written by `samhq-export`, or the result of `load_bundle`.
        target: `tensorrt` builds for the GPU of this machine, `rtx` ahead of time for RTX GPUs.
        graphs: names of the graphs to build; all of them if empty.
        ranges: smallest, usual and largest dynamic sizes, see `profiles`.
        options: builder options.
        overwrite: replace engines of the same graph and target.
        verify: run them on this machine's GPU first, see `gate`; without it they count as not verified.
        progress: called with a label, gives a context in which the build's progress can be shown.
        notice: gets one-line remarks.

    Raises:
        SamHqError, KeyboardInterrupt: the bundle is as it was. ConfigError, BackendUnavailable, BundleError,
            ContractError and ParityError say why.
    """
    bundle = bundle if isinstance(bundle, Bundle) else _load_graphs(Path(bundle))
    flavour = target if isinstance(target, Flavour) else _flavour(target)
    entries = _graphs(bundle, graphs)
    profiles = {name: profiles_of(entry.spec, ranges or {}) for name, entry in entries.items()}
    _require_new(bundle, entries, flavour, overwrite=overwrite)
    tensorrt = load_tensorrt(flavour)
    options = _require_options(tensorrt, options or EngineOptions(), bundle.manifest.precision)
    verify = verify and require_checkable(tensorrt, options)
    return _build_all(bundle, tensorrt, entries, profiles, options, progress, notice, verify=verify)


def _build_all(
    bundle: Bundle,
    tensorrt: TensorRT,
    graphs: Mapping[str, GraphEntry],
    profiles: Mapping[str, tuple[Profile, ...]],
    options: EngineOptions,
    progress: Progress,
    notice: Notice,
    *,
    verify: bool,
) -> list[BuiltEngine]:
    """Build every engine into a folder of its own; they enter the bundle together, once all are there."""
    cache = _timing_cache(bundle, tensorrt)
    staged: dict[str, StagedEngine] = {}
    seconds: dict[str, float] = {}
    with staging_folder(bundle.path) as folder:
        for name, entry in graphs.items():
            start, path = time.perf_counter(), folder / name
            with progress(f"{name} for {tensorrt}") as show:
                # In a thread too: an exception inside the parser's callbacks, Ctrl-C's too, would be swallowed.
                parse = partial(parse_graph, tensorrt, bundle.path / entry.file, entry.spec)
                graph = run_interruptible(parse, threading.Event())
                _build(graph, profiles[name], options, cache, path, show, notice)
            key = _key(name, tensorrt.flavour)
            staged[key] = _staged(bundle, graph, entry, profiles[name], options, path)
            seconds[key] = time.perf_counter() - start
        if verify:
            staged = _checked(bundle, staged, notice)
        sizes = {key: engine.path.stat().st_size for key, engine in staged.items()}
        add_engines(bundle.path, staged)
    return [BuiltEngine(engine.entry, sizes[key], seconds[key]) for key, engine in staged.items()]


def _checked(bundle: Bundle, staged: Mapping[str, StagedEngine], notice: Notice) -> dict[str, StagedEngine]:
    """The same engines with what the parity gate found; it raises for engines that may not enter the bundle."""
    here = {
        engine.entry.graph: replace(engine.entry, file=engine.path.relative_to(bundle.path).as_posix())
        for engine in staged.values()
    }
    parity = check_engines(bundle, here, notice)
    return {k: StagedEngine(e.path, replace(e.entry, parity=parity)) for k, e in staged.items()}


def verify_built(
    bundle: Bundle | str | Path, *, target: str | Flavour = "tensorrt", notice: Notice = lambda text: None
) -> list[EngineEntry]:
    """Check the engines a bundle has on this machine's GPU, as after a build, and note it in the manifest.

    Raises:
        ConfigError, BackendUnavailable, BundleError, ParityError: the manifest is as it was.
    """
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    flavour = target if isinstance(target, Flavour) else _flavour(target)
    return list(verify_engines(bundle, flavour, notice).values())


def _key(graph: str, flavour: Flavour) -> str:
    """Of an engine in the manifest: one per graph and flavour."""
    return f"{graph}.{flavour.name}"


def _load_graphs(path: Path) -> Bundle:
    """As `load_bundle`, but for the engines' files: a damaged engine must not keep anybody from building it again."""
    manifest = read_manifest(path)
    verify_files(path, replace(manifest, files=manifest.lasting_files, engines={}))
    return Bundle(path, manifest)


def _build(
    graph: ParsedGraph,
    profiles: Sequence[Profile],
    options: EngineOptions,
    cache: TimingCache | None,
    path: Path,
    show: Show,
    notice: Notice,
) -> None:
    """Build one engine into the file `path`, while this thread listens for Ctrl-C."""
    stop = threading.Event()
    timings = cache.load(notice) if cache else None
    with write_errors(path), PlanFile(path) as file:
        timings = run_interruptible(
            lambda: build_plan(graph, profiles, options, timings=timings, show=show, stop=stop, write=file.write), stop
        )
    if cache and timings is not None:
        cache.save(timings, notice)


def _staged(
    bundle: Bundle,
    graph: ParsedGraph,
    entry: GraphEntry,
    profiles: Sequence[Profile],
    options: EngineOptions,
    path: Path,
) -> StagedEngine:
    tensorrt = graph.tensorrt
    gpu = tensorrt.gpu if tensorrt.flavour.needs_gpu else None
    return StagedEngine(
        path,
        EngineEntry(
            graph=entry.spec.name,
            file=engine_file_name(entry.spec.name, tensorrt.flavour.name, path),
            graph_sha256=bundle.manifest.files[entry.file].sha256,
            flavour=tensorrt.flavour.name,
            version=tensorrt.version,
            gpu=gpu.name if gpu else None,
            compute_capability=gpu.compute_capability if gpu else None,
            profiles=[{name: shape.to_json() for name, shape in profile.items()} for profile in profiles],
            fixed_inputs=list(graph.fixed_inputs),
            flags=_options_for(graph, options).to_json(),
            platform=current_platform(),
        ),
    )


def _options_for(graph: ParsedGraph, options: EngineOptions) -> EngineOptions:
    """The options that mean something for this graph: only one of them has an `hq_token`."""
    meaningless = options.refittable not in (None, "all", *graph.fixed_inputs)
    return replace(options, refittable=None) if meaningless else options


def _flavour(name: str) -> Flavour:
    if name not in FLAVOURS:
        raise ConfigError(f"--target: got {name!r}, expected {' or '.join(FLAVOURS)}")
    return FLAVOURS[name]


def _require_options(tensorrt: TensorRT, options: EngineOptions, precision: str) -> EngineOptions:
    """The same options, for GPUs that have this precision; refused where this TensorRT lacks one."""
    if precision == "fp8":
        options = for_float8(tensorrt, options)
    tensorrt.require(options)
    return options


def _graphs(bundle: Bundle, names: Sequence[str]) -> dict[str, GraphEntry]:
    entries = bundle.manifest.graphs
    unknown = [name for name in names if name not in entries]
    if unknown:
        raise ConfigError(f"--graph: got {unknown[0]!r}, this bundle has {', '.join(entries)}")
    return {name: entry for name, entry in entries.items() if not names or name in names}


def _require_new(bundle: Bundle, graphs: Mapping[str, GraphEntry], flavour: Flavour, *, overwrite: bool) -> None:
    for name in graphs:
        entry = bundle.manifest.engines.get(_key(name, flavour))
        if entry and not overwrite:
            place = f" on {entry.gpu}" if entry.gpu else ""
            raise ConfigError(
                f"{bundle.path}: already has {name} for {flavour.product} {entry.version}{place}; "
                "give --overwrite to replace it"
            )


def _timing_cache(bundle: Bundle, tensorrt: TensorRT) -> TimingCache | None:
    if not tensorrt.flavour.keeps_timing_cache:
        return None
    gpu = tensorrt.gpu.name if tensorrt.gpu else "no GPU"
    return TimingCache(timing_cache_folder(bundle.path), tensorrt.flavour.name, tensorrt.version, gpu)
