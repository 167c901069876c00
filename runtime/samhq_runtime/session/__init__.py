"""A session runs one graph: feeds by name in, tensors by name out. One module per backend, imported when chosen.

Two ways to run, the same for every backend:

* `session(feeds)` returns numpy arrays that belong to the caller;
* `session.keep(feeds)` leaves the outputs where they were computed and returns `DeviceTensor`s. Sessions of the same
  provider and device take them as feeds without a copy through the host; any other session, and `numpy.asarray`, copies
  them to the host first. A session that computes on the CPU keeps plain arrays.

When a call returns its results are complete: no stream, event or lock is left for the caller. Every session may be
called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..contract import Array, GraphSpec
from ..errors import BackendUnavailable, ConfigError

ProviderOptions = Mapping[str, Mapping[str, str]]  # provider -> option -> value


class DeviceTensor(Protocol):
    """A tensor that stayed on its session's device; the memory is freed with the last reference."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def ndim(self) -> int: ...

    def numpy(self) -> Array:
        """A copy on the host."""
        ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array: ...


Tensor: TypeAlias = "Array | DeviceTensor"


class Session(Protocol):
    """What every backend offers."""

    @property
    def spec(self) -> GraphSpec: ...

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Array]: ...

    def keep(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def require_chosen(provider_options: ProviderOptions | None, providers: Sequence[str]) -> None:
    """Raise ConfigError for options of a provider that is not asked for."""
    strangers = [name for name in provider_options or {} if name not in providers]
    if strangers:
        raise ConfigError(f"provider option of {strangers[0]!r}: expected one of the providers {', '.join(providers)}")


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
        threads: CPU threads inside one operator; 0 means one per physical core.
        provider_options: options of those providers, as ONNX Runtime calls them.
    """
    if path.suffix != ".onnx":
        raise BackendUnavailable(f"{path.name}: no backend for {path.suffix!r}; expected .onnx")
    if any(name.partition(":")[0] == "openvino" for name in providers):
        from .openvino import OpenVinoSession

        return OpenVinoSession(path, spec, providers=providers, threads=threads, provider_options=provider_options)
    from .ort import OrtSession

    return OrtSession(path, spec, providers=providers, threads=threads, provider_options=provider_options)
