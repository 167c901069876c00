"""A GPU that is not there, behind the functions of `cuda.bindings.runtime`, strict where the real ones are.

Device and pinned memory are buffers of this process, and every copy is checked against their bounds. A stream only
queues; nothing has happened before it is synchronised, so a missing wait shows as stale data. Names, argument order
and return values are those of cuda-bindings 12.9 and 13.5.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

Status = enum.IntEnum(
    "cudaError_t",
    {
        "cudaSuccess": 0,
        "cudaErrorMemoryAllocation": 2,
        "cudaErrorInsufficientDriver": 35,
        "cudaErrorIllegalAddress": 700,
        "cudaErrorStreamCaptureUnsupported": 900,
    },
)
Kind = enum.IntEnum(
    "cudaMemcpyKind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2, "cudaMemcpyDeviceToDevice": 3}
)
CaptureMode = enum.IntEnum("cudaStreamCaptureMode", {"cudaStreamCaptureModeThreadLocal": 1})
Operation = Callable[[], None]


class Gpu:
    """Its memory, streams and graphs; with a larger `count` all GPUs share them.

    `fails` maps the name of a call to the status it shall return.
    """

    def __init__(self, memory: int = 1 << 30) -> None:
        self.free_memory = memory
        self.count = 1
        self.device: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.streams: dict[int, list[Operation]] = {}
        self.capturing: dict[int, list[Operation]] = {}
        self.graphs: dict[int, list[Operation]] = {}
        self.fails: dict[str, Status] = {}
        self.calls: list[str] = []
        self.copied: list[tuple[str, int]] = []
        self._handles = itertools.count(1)

    def enqueue(self, stream: int, operation: Operation) -> None:
        self.capturing.get(stream, self.streams[stream]).append(operation)

    def array(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Device memory at an address, which must be inside one allocation."""
        count = int(np.prod(shape, dtype=np.int64))
        nbytes = count * np.dtype(dtype).itemsize
        self.require(self.device, address, nbytes)
        return np.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype, count).reshape(shape)

    def require(self, memory: dict[int, Any], address: int, nbytes: int) -> None:
        inside = [
            start for start, block in memory.items() if start <= address <= address + nbytes <= start + len(block)
        ]
        assert inside, f"{nbytes} bytes at {address:#x}: not allocated there"

    def handle(self) -> int:
        return next(self._handles)


def fake_cudart(gpu: Gpu) -> ModuleType:
    """The functions that `session.cuda` calls."""
    module = ModuleType("cuda.bindings.runtime")

    def function(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            gpu.calls.append(call.__name__)
            if call.__name__ in gpu.fails:
                gpu.capturing.clear()  # an error ends a capture, as it does with CUDA
                return (gpu.fails[call.__name__], None) if call.__name__ in _WITH_VALUE else (gpu.fails[call.__name__],)
            result = call(*arguments)
            return result if isinstance(result, tuple) else (Status.cudaSuccess, *([] if result is None else [result]))

        setattr(module, call.__name__, wrapped)
        return wrapped

    _memory(gpu, function)
    _streams(gpu, function)
    _graphs(gpu, function)
    function(_named("cudaGetDeviceCount", lambda: gpu.count))
    function(_named("cudaSetDevice", lambda index: None))
    function(_named("cudaGetLastError", lambda: (Status.cudaSuccess,)))
    function(_named("cudaGetErrorName", lambda status: status.name.encode()))
    function(_named("cudaGetErrorString", lambda status: b"what CUDA says of it"))
    module.cudaError_t = Status  # type: ignore[attr-defined]
    module.cudaMemcpyKind = Kind  # type: ignore[attr-defined]
    module.cudaStreamCaptureMode = CaptureMode  # type: ignore[attr-defined]
    module.cudaStreamNonBlocking = 1  # type: ignore[attr-defined]
    return module


_WITH_VALUE = {
    "cudaGetDeviceCount",
    "cudaMalloc",
    "cudaMallocHost",
    "cudaStreamCreateWithFlags",
    "cudaStreamEndCapture",
    "cudaGraphInstantiate",
}


def _named(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    call.__name__ = name
    return call


def _memory(gpu: Gpu, function: Callable[..., Any]) -> None:
    @function
    def cudaMalloc(size: int) -> Any:  # noqa: N802
        if size > gpu.free_memory:
            return Status.cudaErrorMemoryAllocation, None
        gpu.free_memory -= size
        block = (ctypes.c_char * size).from_buffer(bytearray(b"\xff" * size))  # NaN until written
        gpu.device[ctypes.addressof(block)] = block
        return Status.cudaSuccess, ctypes.addressof(block)

    @function
    def cudaFree(address: int) -> None:  # noqa: N802
        gpu.free_memory += len(gpu.device.pop(address))

    @function
    def cudaMallocHost(size: int) -> int:  # noqa: N802
        block = (ctypes.c_char * size)()
        gpu.pinned[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    @function
    def cudaFreeHost(address: int) -> None:  # noqa: N802
        del gpu.pinned[address]

    def check_copy(target: int, source: int, nbytes: int, kind: Kind, host: dict[int, Any] | None) -> None:
        gpu.copied.append((Kind(kind).name.removeprefix("cudaMemcpy"), nbytes))
        for address, is_host in ((target, kind == 2), (source, kind == 1)):
            if not is_host or host is not None:
                gpu.require(host or {} if is_host else gpu.device, address, nbytes)

    @function
    def cudaMemcpy(target: int, source: int, nbytes: int, kind: Kind) -> None:  # noqa: N802
        check_copy(target, source, nbytes, kind, None)
        ctypes.memmove(target, source, nbytes)

    @function
    def cudaMemcpyAsync(target: int, source: int, nbytes: int, kind: Kind, stream: int) -> None:  # noqa: N802
        check_copy(target, source, nbytes, kind, gpu.pinned)  # from pageable memory it would not be asynchronous
        gpu.enqueue(stream, lambda: ctypes.memmove(target, source, nbytes))


def _streams(gpu: Gpu, function: Callable[..., Any]) -> None:
    @function
    def cudaStreamCreateWithFlags(flags: int) -> int:  # noqa: N802
        handle = gpu.handle()
        gpu.streams[handle] = []
        return handle

    @function
    def cudaStreamDestroy(stream: int) -> None:  # noqa: N802
        del gpu.streams[stream]

    def finish(stream: int) -> None:
        assert stream not in gpu.capturing, "a stream that is being captured cannot be waited for"
        queue, gpu.streams[stream] = gpu.streams[stream], []
        for operation in queue:
            operation()

    @function
    def cudaStreamSynchronize(stream: int) -> None:  # noqa: N802
        finish(stream)

    @function
    def cudaDeviceSynchronize() -> None:  # noqa: N802
        for stream in list(gpu.streams):
            finish(stream)

    @function
    def cudaStreamBeginCapture(stream: int, mode: CaptureMode) -> None:  # noqa: N802
        gpu.capturing[stream] = []

    @function
    def cudaStreamEndCapture(stream: int) -> int:  # noqa: N802
        handle = gpu.handle()
        gpu.graphs[handle] = gpu.capturing.pop(stream, [])
        return handle


def _graphs(gpu: Gpu, function: Callable[..., Any]) -> None:
    @function
    def cudaGraphInstantiate(graph: int, flags: int) -> int:  # noqa: N802
        handle = gpu.handle()
        gpu.graphs[handle] = list(gpu.graphs[graph])
        return handle

    @function
    def cudaGraphLaunch(graph: int, stream: int) -> None:  # noqa: N802
        for operation in gpu.graphs[graph]:
            gpu.enqueue(stream, operation)

    @function
    def cudaGraphDestroy(graph: int) -> None:  # noqa: N802
        del gpu.graphs[graph]

    @function
    def cudaGraphExecDestroy(graph: int) -> None:  # noqa: N802
        del gpu.graphs[graph]
