"""Lanes: execution contexts of one TensorRT engine, each with a stream and buffers of its own.

A lane serves one call at a time. Its device and pinned host buffers stay and only grow; what a caller keeps is copied
on the device into memory of its own, so that the addresses a CUDA graph has recorded never change hands.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ..contract import Array, GraphSpec, TensorSpec
from ..errors import DeviceError
from .cuda import Buffer, CudaTensor, Device, Graph, PinnedBuffer, Stream

_log = logging.getLogger(__name__)


class GraphCapture:
    """Whether the lanes of an engine record CUDA graphs, and if not, why."""

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self.captured = 0
        self.refusal = ""

    def refuse(self, reason: str) -> None:
        """Run without graphs from now on; results are the same, launches cost more."""
        self.wanted, self.refusal = False, reason
        _log.info("no CUDA graph: %s", reason)


class Lane:
    """One execution context with its stream and buffers."""

    def __init__(self, device: Device, engine: Any, spec: GraphSpec, capture: GraphCapture) -> None:
        self._device, self._spec, self._capture = device, spec, capture
        self._stream = Stream()
        self._context = engine.create_execution_context()
        if self._context is None:
            raise DeviceError(f"{spec.name}: no memory on the GPU for another execution context; open fewer contexts")
        self._buffers: dict[str, Buffer] = {}
        self._pinned: dict[str, PinnedBuffer] = {}
        self._copied: dict[str, weakref.ref[CudaTensor]] = {}  # tensors whose content the buffers have
        self._graph: tuple[object, Graph] | None = None
        self._last: object = None

    def run(self, feeds: Mapping[str, Array | CudaTensor], *, profile: int, keep: bool) -> dict[str, Any]:
        """Execute once and wait; outputs as arrays, or with `keep` as `CudaTensor`s."""
        try:
            return self._run(feeds, profile=profile, keep=keep)
        except BaseException:
            with suppress(DeviceError):
                self._stream.synchronize()  # nothing may be under way in buffers that the next call fills
            raise

    def _run(self, feeds: Mapping[str, Array | CudaTensor], *, profile: int, keep: bool) -> dict[str, Any]:
        self._select(profile)
        recordable = self._capture.wanted and _comes_again(self._spec, feeds)
        addresses = {name: self._feed(name, tensor, copy=recordable) for name, tensor in feeds.items()}
        outputs = [(output, self._output_shape(output)) for output in self._spec.outputs]
        for output, shape in outputs:
            addresses[output.name] = self._buffer(output.name, _nbytes(output, shape)).address
        for name, address in addresses.items():
            self._require(self._context.set_tensor_address(name, address), f"takes no address for {name}")
        key = (profile, tuple((name, tensor.shape) for name, tensor in feeds.items()), tuple(addresses.items()))
        self._execute(key if recordable else None)
        return self._kept(outputs) if keep else self._fetched(outputs)

    def _select(self, profile: int) -> None:
        if self._context.active_optimization_profile != profile:
            switched = self._context.set_optimization_profile_async(profile, int(self._stream.handle))
            self._require(switched, f"refuses profile {profile}")

    def _feed(self, name: str, tensor: Array | CudaTensor, *, copy: bool) -> int:
        """The device address of an input, copied there unless it is there already.

        With `copy` tensors on the device get an address of this lane's too: a recording holds addresses, and those of
        an image's features change with the image. Features of the image of the last call are there still.
        """
        self._require(self._context.set_input_shape(name, tuple(tensor.shape)), f"refuses {name} {tensor.shape}")
        if isinstance(tensor, CudaTensor):
            return self._copy(name, tensor) if copy else tensor.buffer.address
        self._copied.pop(name, None)
        buffer, pinned = self._buffer(name, tensor.nbytes), self._host(name, tensor.nbytes)
        pinned.view(tensor.shape, tensor.dtype)[...] = tensor
        self._stream.copy_to_device(buffer.address, pinned.address, tensor.nbytes)
        return buffer.address

    def _copy(self, name: str, tensor: CudaTensor) -> int:
        known = self._copied.get(name)
        if known is None or known() is not tensor:
            self._copied.pop(name, None)
            buffer = self._buffer(name, tensor.nbytes)
            self._stream.copy_on_device(buffer.address, tensor.buffer.address, tensor.nbytes)
            self._copied[name] = weakref.ref(tensor)
        return self._buffers[name].address

    def _output_shape(self, output: TensorSpec) -> tuple[int, ...]:
        shape = tuple(self._context.get_tensor_shape(output.name))
        self._require(min(shape, default=0) >= 0, f"does not know the shape of {output.name}")
        return shape

    def _execute(self, key: object) -> None:
        """Enqueue the engine, or launch its recording; it is recorded when the same call comes twice in a row.

        `key` is all that a recording depends on (profile, shapes, addresses), None for a call that cannot be recorded.
        Any other call in between ends a recording: it changes the context's own state.
        """
        if self._graph is not None and key == self._graph[0]:
            self._graph[1].launch(self._stream)
            return
        self._graph = None
        repeated, self._last = key is not None and key == self._last, key
        if not (repeated and self._capture.wanted and self._record(key)):
            self._enqueue()

    def _record(self, key: object) -> bool:
        """Record and launch; False if that cannot be done here, and nothing has been enqueued."""
        try:
            self._stream.begin_capture()
        except DeviceError as e:
            self._capture.refuse(str(e))
            return False
        try:
            self._enqueue()
            graph = self._stream.end_capture()
        except DeviceError as e:
            self._stream.abort_capture()
            self._capture.refuse(str(e))
            return False
        self._graph = (key, graph)
        self._capture.captured += 1
        graph.launch(self._stream)
        return True

    def _enqueue(self) -> None:
        self._require(self._context.execute_async_v3(int(self._stream.handle)), "failed to start")

    def _fetched(self, outputs: list[tuple[TensorSpec, tuple[int, ...]]]) -> dict[str, Array]:
        views = {}
        for output, shape in outputs:
            pinned = self._host(output.name, _nbytes(output, shape))
            self._stream.copy_to_host(pinned.address, self._buffers[output.name].address, _nbytes(output, shape))
            views[output.name] = pinned.view(shape, np.dtype(output.dtype))
        self._stream.synchronize()
        return {name: view.copy() for name, view in views.items()}

    def _kept(self, outputs: list[tuple[TensorSpec, tuple[int, ...]]]) -> dict[str, CudaTensor]:
        tensors = {}
        for output, shape in outputs:
            nbytes = _nbytes(output, shape)
            memory = self._device.allocate(nbytes)
            self._stream.copy_on_device(memory.address, self._buffers[output.name].address, nbytes)
            tensors[output.name] = CudaTensor(self._device, memory, shape, np.dtype(output.dtype))
        self._stream.synchronize()
        return tensors

    def _buffer(self, name: str, nbytes: int) -> Buffer:
        if name not in self._buffers or self._buffers[name].size < nbytes:
            self._buffers.pop(name, None)
            self._buffers[name] = self._device.allocate(nbytes)
        return self._buffers[name]

    def _host(self, name: str, nbytes: int) -> PinnedBuffer:
        if name not in self._pinned or self._pinned[name].size < nbytes:
            self._pinned.pop(name, None)
            self._pinned[name] = PinnedBuffer(max(nbytes, 1))
        return self._pinned[name]

    def _require(self, succeeded: bool, complaint: str) -> None:
        if not succeeded:
            raise DeviceError(f"{self._spec.name}: TensorRT {complaint}; run `samhq doctor`")


def _comes_again(spec: GraphSpec, feeds: Mapping[str, Array | CudaTensor]) -> bool:
    """Whether the shapes of a call are likely to come twice: an encoding, or one prompt, which mostly is two points.

    More prompts keep the GPU busy whoever launches its kernels, and their number changes.
    """
    sizes = (zip(tensor.shape, feeds[tensor.name].shape, strict=True) for tensor in spec.inputs if tensor.name in feeds)
    return all(size == 1 for pairs in sizes for name, size in pairs if name == "prompts")


def _nbytes(tensor: TensorSpec, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
