"""From the names of providers to a session; each backend is imported when chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..contract import GraphSpec
from ..errors import BackendUnavailable
from ..files import is_utf8
from ..whole_numbers import require_whole
from .protocol import ProviderOptions, Session
from .providers import run_openvino

MAX_THREADS = 1024  # backends crash, instead of saying so, when they cannot start their threads


def open_session(
    path: Path,
    spec: GraphSpec,
    *,
    providers: Sequence[str] = ("cpu",),
    threads: int = 0,
    provider_options: ProviderOptions | None = None,
) -> Session:
    """Open an ONNX graph; engines are opened by `Bundle.open`, which knows what they were built for.

    Args:
        path: the graph file.
        spec: the IO contract the file must fulfil.
        providers: execution providers in order of preference (`cpu`, `cuda`, `tensorrt`, `rtx`); each must be
            available, and none but these is used. Or `openvino[:DEVICE][:PRECISION]` alone.
        threads: CPU threads inside one operator; 0 means one per physical core, MAX_THREADS is the most.
        provider_options: options of those providers, as ONNX Runtime calls them.
    """
    threads = require_whole("threads", threads, 0, MAX_THREADS, f"0 (one per physical core) to {MAX_THREADS}")
    if not is_utf8(path):
        raise BackendUnavailable(f"{str(path)!r}: backends cannot open a path that is not UTF-8; rename or link it")
    if path.suffix != ".onnx":
        raise BackendUnavailable(f"{path.name}: no backend for {path.suffix!r}; expected .onnx")
    if run_openvino(providers):
        from .openvino import OpenVinoSession

        return OpenVinoSession(path, spec, providers=providers, threads=threads, provider_options=provider_options)
    from .ort import OrtSession

    return OrtSession(path, spec, providers=providers, threads=threads, provider_options=provider_options)
