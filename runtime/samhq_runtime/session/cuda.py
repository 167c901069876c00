"""CUDA memory, streams and graphs, through `cuda.bindings.runtime` alone: it needs the driver and nothing else of CUDA.

Everything belongs to one device; `Device.activate()` makes it the calling thread's, as every entry point must.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np

from ..contract import Array
from ..errors import BackendUnavailable, ConfigError, DeviceError
from ..installing import unavailable
from ..nvidia.jetson import engine_extra

try:
    from cuda.bindings import runtime as cudart
except Exception as e:  # a broken native package raises whatever its loader does
    raise unavailable("cuda-bindings", e, engine_extra(), use="engines are run with it") from e

_KEPT = 4  # free buffers of one size kept for the next tensor; an allocation waits for the whole GPU
_ALIGNMENT = 256


class Device:
    """One GPU and the device memory that its sessions have allocated."""

    def __init__(self, index: int) -> None:
        self.index = index
        status, count = cudart.cudaGetDeviceCount()
        if int(status) != 0 or count < 1:
            raise BackendUnavailable(f"no NVIDIA GPU can be used here ({_describe(status)}); run `samhq doctor`")
        if not 0 <= index < count:
            raise ConfigError(f"device_id: got {index}, this machine has {count} (0 to {count - 1})")
        self._free: dict[int, deque[int]] = {}

    def activate(self) -> None:
        """Make this the device of the calling thread."""
        check("cudaSetDevice", cudart.cudaSetDevice(self.index))

    def allocate(self, nbytes: int) -> Buffer:
        """Device memory, of a freed buffer of the same size if there is one."""
        size = max(_ALIGNMENT, -(-nbytes // _ALIGNMENT) * _ALIGNMENT)  # TensorRT wants an address for empty tensors too
        try:
            address = self._free[size].pop()
        except (KeyError, IndexError):
            address = self._malloc(size)
        return Buffer(self, address, size)

    def release(self, address: int, size: int) -> None:
        """Take memory back. May run in any thread, also inside the garbage collector: no locks here."""
        kept = self._free.setdefault(size, deque())
        if len(kept) < _KEPT:
            kept.append(address)
        else:
            cudart.cudaFree(address)

    def fetch(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A copy on the host of memory that another library owns, once all work on the device is done."""
        self.activate()
        check("cudaDeviceSynchronize", cudart.cudaDeviceSynchronize())
        return _on_host(address, shape, dtype)

    def trim(self) -> None:
        """Give free buffers back to the driver."""
        for kept in list(self._free.values()):  # another thread may free a buffer of a new size meanwhile
            with suppress(IndexError):
                while True:
                    check("cudaFree", cudart.cudaFree(kept.pop()))

    def _malloc(self, size: int) -> int:
        """New memory; where there is none, the free buffers of other sizes make room."""
        result = cudart.cudaMalloc(size)
        if result[0] == cudart.cudaError_t.cudaErrorMemoryAllocation:
            cudart.cudaGetLastError()  # it is remembered, and the next launch would report it
            self.trim()
            result = cudart.cudaMalloc(size)
        return int(check(f"cudaMalloc({size})", result))


class Buffer:
    """Device memory; it goes back to its device with the last reference."""

    def __init__(self, device: Device, address: int, size: int) -> None:
        self.address, self.size = address, size
        weakref.finalize(self, device.release, address, size).atexit = False  # the process' end frees everything


class PinnedBuffer:
    """Host memory that the GPU copies from and to without a detour."""

    def __init__(self, size: int) -> None:
        self.address, self.size = int(check(f"cudaMallocHost({size})", cudart.cudaMallocHost(size))), size
        self._bytes = (ctypes.c_char * size).from_address(self.address)
        weakref.finalize(self, cudart.cudaFreeHost, self.address).atexit = False

    def view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Its first bytes as an array; valid as long as the buffer is."""
        return np.frombuffer(memoryview(self._bytes), dtype=dtype, count=int(np.prod(shape, dtype=np.int64))).reshape(
            shape
        )


class Stream:
    """A queue of work; it does not wait for other streams."""

    def __init__(self) -> None:
        self.handle = check("cudaStreamCreateWithFlags", cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
        weakref.finalize(self, cudart.cudaStreamDestroy, self.handle).atexit = False

    def synchronize(self) -> None:
        check("cudaStreamSynchronize", cudart.cudaStreamSynchronize(self.handle))

    def copy_to_device(self, target: int, source: int, nbytes: int) -> None:
        self._copy(target, source, nbytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def copy_to_host(self, target: int, source: int, nbytes: int) -> None:
        self._copy(target, source, nbytes, cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def copy_on_device(self, target: int, source: int, nbytes: int) -> None:
        self._copy(target, source, nbytes, cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def begin_capture(self) -> None:
        """Record what this thread enqueues instead of running it."""
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check("cudaStreamBeginCapture", cudart.cudaStreamBeginCapture(self.handle, mode))

    def end_capture(self) -> Graph:
        """The recording, ready to launch."""
        return Graph(check("cudaStreamEndCapture", cudart.cudaStreamEndCapture(self.handle)))

    def abort_capture(self) -> None:
        """Leave capture mode whatever happened in it, and forget the error."""
        status, graph = cudart.cudaStreamEndCapture(self.handle)
        if int(status) == 0 and int(graph):
            cudart.cudaGraphDestroy(graph)
        cudart.cudaGetLastError()

    def _copy(self, target: int, source: int, nbytes: int, kind: Any) -> None:
        if nbytes:
            check(f"cudaMemcpyAsync({nbytes})", cudart.cudaMemcpyAsync(target, source, nbytes, kind, self.handle))


class Graph:
    """A recorded sequence of kernels, launched as one."""

    def __init__(self, recording: Any) -> None:
        try:
            self._handle = check("cudaGraphInstantiate", cudart.cudaGraphInstantiate(recording, 0))
        finally:
            cudart.cudaGraphDestroy(recording)
        weakref.finalize(self, cudart.cudaGraphExecDestroy, self._handle).atexit = False

    def launch(self, stream: Stream) -> None:
        check("cudaGraphLaunch", cudart.cudaGraphLaunch(self._handle, stream.handle))


class CudaTensor:
    """A complete tensor in device memory; see `DeviceTensor`."""

    def __init__(self, device: Device, buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.device, self.buffer, self.shape, self.dtype = device, buffer, shape, dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def numpy(self) -> Array:
        """A copy on the host."""
        self.device.activate()
        return _on_host(self.buffer.address, self.shape, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a tensor on the GPU cannot become an array without a copy")
        return self.numpy().astype(dtype or self.dtype, copy=False)


def check(call: str, result: tuple[Any, ...]) -> Any:
    """What a CUDA call returned; DeviceError unless it succeeded."""
    status, *values = result
    if status == cudart.cudaError_t.cudaErrorMemoryAllocation:
        raise DeviceError(
            f"{call}: no memory left on the GPU (or pinned on the host); close other programs, "
            "send fewer prompts or images at once, or open fewer contexts"
        )
    if int(status) != 0:
        raise DeviceError(f"{call}: {_describe(status)}; run `samhq doctor`")
    return values[0] if values else None


def _on_host(address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A copy of memory of the calling thread's device."""
    array = np.empty(shape, dtype)
    if array.nbytes:
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        check(f"cudaMemcpy({array.nbytes})", cudart.cudaMemcpy(array.ctypes.data, address, array.nbytes, kind))
    return array


def _describe(status: Any) -> str:
    _, name = cudart.cudaGetErrorName(status)
    _, text = cudart.cudaGetErrorString(status)
    return f"{_text(name)}: {_text(text)}"


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
