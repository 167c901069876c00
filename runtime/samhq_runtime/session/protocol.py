"""What every session offers, and what it leaves on its device."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, TypeAlias

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


def closed(spec: GraphSpec) -> ConfigError:
    """The error for a call of a session after `close`."""
    return ConfigError(f"{spec.name}: this session is closed; open the bundle again")
