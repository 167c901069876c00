"""What every session offers, and what it leaves on its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ..contract import Array, GraphSpec
from ..errors import ConfigError

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
Place: TypeAlias = "tuple[str, int]"  # a kind of device and its number, such as `cuda` and 0


@dataclass(frozen=True)
class Borrowed:
    """A tensor in device memory that another library owns, without gaps; `owner` keeps it there. Only fed."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    place: Place
    owner: object

    @property
    def ndim(self) -> int:
        return len(self.shape)


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


@runtime_checkable
class Neighbourly(Protocol):
    """A session that other graphs can be run beside, on the same device. `place` is None if that is the CPU."""

    @property
    def place(self) -> Place | None: ...

    def put(self, array: Array) -> DeviceTensor:
        """A copy on the device."""
        ...

    def beside(self, path: Path, spec: GraphSpec) -> Session:
        """Another graph on the device; each takes what the other keeps without a copy, and it takes `Borrowed`."""
        ...


@runtime_checkable
class Fetching(Protocol):
    """A session on a device that it can copy from, though it runs nothing else there."""

    @property
    def place(self) -> Place: ...

    def fetch(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A copy on the host of what another library has put there, once all its work is done."""
        ...


def closed(spec: GraphSpec) -> ConfigError:
    """The error for a call of a session after `close`."""
    return ConfigError(f"{spec.name}: this session is closed; open the bundle again")
