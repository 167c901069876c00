"""Arrays of a GPU that is not there: what frames on one look like to us, over the memory of a numpy array."""

from __future__ import annotations

from typing import Any

import numpy as np

CUDA_KIND = 2  # DLPack's


class OnDevice:
    """What torch and CuPy hand out for an array on device `number`; `streams` are those it was asked for."""

    def __init__(self, array: Any, number: int = 0, kind: int = CUDA_KIND) -> None:
        self.array, self.number, self.kind = array, number, kind
        self.streams: list[object] = []

    def __dlpack__(self, *, stream: object = None) -> object:
        self.streams.append(stream)
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, self.number


class CudaInterface:
    """A library without DLPack."""

    def __init__(self, array: np.ndarray, **changed: Any) -> None:
        self._array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": array.strides,
            "version": 3,
            **changed,
        }
