"""Native TensorRT session: `tensorrt` or `tensorrt_rtx`, and `cuda.bindings`; no torch, no ONNX Runtime.

Threads: an engine is loaded once per file and device and shared by all sessions on it. A call borrows one of its lanes
(an execution context with stream and buffers); up to `contexts` calls run at once, later ones wait. Another HQ token is
refitted into a copy of the engine that the session has to itself, while none of its lanes is busy.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..closing import Closing
from ..contract import Array, GraphSpec, require_same_io
from ..errors import BundleError, ConfigError, ContractError, DeviceError
from ..manifest import EngineEntry, Manifest
from ..nvidia.compatibility import require_runs_here
from ..nvidia.flavour import FLAVOURS, TensorRT, load_tensorrt
from ..nvidia.gpu import current_gpu
from ..nvidia.messages import messages_of
from ..nvidia.rebuild import rebuild_command
from .cuda import CudaTensor, Device
from .forks import follow_forks, left, never_end
from .lanes import GraphCapture, Lane
from .protocol import Place, Tensor, closed

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT64": "int64"}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How engines are run.

    Attributes:
        device_id: which GPU of those the process may use.
        contexts: calls that may run at once on one engine; each takes GPU memory of its own.
        cuda_graph: replay encodings, and decodings of one prompt, from a recording.
    """

    device_id: int = 0
    contexts: int = 2
    cuda_graph: bool = True

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> RunOptions:
        """From provider options; ConfigError for an unknown name or a value that is no number."""
        unknown = [name for name in texts if name not in cls.__dataclass_fields__]
        wrong = [name for name, text in texts.items() if not text.isdecimal()]
        if unknown or wrong or texts.get("contexts") == "0":
            name = (unknown or wrong or ["contexts"])[0]
            known = "device_id=0, contexts=2 (at least 1), cuda_graph=1 (or 0)"
            raise ConfigError(f"provider option engine.{name}={texts[name]}: expected of {known}")
        numbers = {name: int(text) for name, text in texts.items()}
        return cls(
            device_id=numbers.get("device_id", cls.device_id),
            contexts=numbers.get("contexts", cls.contexts),
            cuda_graph=bool(numbers.get("cuda_graph", cls.cuda_graph)),
        )


class TrtSession(Closing):
    """One engine of a bundle; see the module for threads, `session` for the protocol. `gpu` is the one it runs on."""

    def __init__(self, bundle: Path, manifest: Manifest, entry: EngineEntry, options: RunOptions | None = None) -> None:
        """Load an engine, or share it if it is loaded.

        Raises:
            BackendUnavailable: TensorRT, cuda-bindings or a GPU is missing, or the engine was built for another.
            BundleError: not an engine.
            ContractError: not an engine of this bundle's graph.
        """
        self._options = options or RunOptions()
        tensorrt = load_tensorrt(FLAVOURS[entry.flavour])
        gpu = current_gpu(self._options.device_id)
        if gpu is None and self._options.device_id:
            raise ConfigError(f"device_id: got {self._options.device_id}; this machine has no such GPU, or hides it")
        self.gpu = require_runs_here(entry, bundle=bundle, manifest=manifest, tensorrt=tensorrt, gpu=gpu)
        self.spec = manifest.graphs[entry.graph].spec
        self._bundle, self._entry = bundle, entry
        inputs = tuple(tensor for tensor in self.spec.inputs if tensor.name not in entry.fixed_inputs)
        self._load = partial(
            Engine,
            tensorrt,
            bundle / entry.file,
            GraphSpec(self.spec.name, inputs, self.spec.outputs),
            self._options,
            host_code=bool(entry.flags.get("version_compatible")),  # such engines carry their own runtime
        )
        self._shared: Engine | None = _share((bundle / entry.file).resolve(), self._options, self._load)
        self._tuned: Engine | None = None
        self._tuning = threading.Lock()
        self._left = False
        follow_forks(self)

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Array]:
        return self._run(feeds, keep=False)

    def keep(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._run(feeds, keep=True)

    @property
    def place(self) -> Place:
        return "cuda", self._options.device_id

    def fetch(self, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """See `Fetching`."""
        return self._engine.device.fetch(address, shape, dtype)

    def close(self) -> None:
        """Let go of the engine; it is unloaded with its last session."""
        self._shared, self._tuned, self._left = None, None, False

    def leave(self) -> None:
        """See `Forkable`."""
        if self._shared is not None:
            never_end(self._shared, self._tuned)
            self._shared, self._tuned, self._left = None, None, True

    @property
    def cuda_graph(self) -> str:
        """`off`, `waiting` for a call to repeat, `recorded`, or why it was refused."""
        capture = self._engine.capture
        if capture.refusal:
            return f"refused: {capture.refusal}"
        return "recorded" if capture.captured else "waiting" if capture.wanted else "off"

    @property
    def _engine(self) -> Engine:
        if self._left:
            raise left(self.spec, "a GPU's context")
        if self._shared is None:
            raise closed(self.spec)
        return self._shared

    def _run(self, feeds: Mapping[str, Tensor], *, keep: bool) -> dict[str, Any]:
        self.spec.check_feeds(feeds)
        fixed = {name: np.asarray(feeds[name]) for name in self._entry.fixed_inputs if name in feeds}
        moving = {name: self._engine.accept(tensor) for name, tensor in feeds.items() if name not in fixed}
        profile = self._profile(moving)
        engine = self._with_weights(fixed) if fixed else self._engine
        with engine.lane(fixed) as lane:
            return lane.run(moving, profile=profile, keep=keep)

    def _profile(self, feeds: Mapping[str, Array | CudaTensor]) -> int:
        """The first optimisation profile that has room for these shapes."""
        for index, profile in enumerate(self._entry.profiles):
            if all(_fits(feeds[name].shape, bounds) for name, bounds in profile.items()):
                return index
        shapes = {name: tuple(feeds[name].shape) for profile in self._entry.profiles for name in profile}
        allowed = [{n: f"{tuple(b['min'])} to {tuple(b['max'])}" for n, b in p.items()} for p in self._entry.profiles]
        outside = [name for name in shapes if not any(_fits(shapes[name], p[name]) for p in self._entry.profiles)]
        mismatch = ", ".join(f"{name} {shapes[name]}, built for {allowed[0][name]}" for name in outside or shapes)
        raise ContractError(
            f"{self.spec.name}: {mismatch}; send fewer at once, or build with wider --prompts, --points or --images: "
            f"{self._rebuild()}"
        )

    def _with_weights(self, weights: Mapping[str, Array]) -> Engine:
        """A copy of the engine that these weights may be refitted into; the shared one keeps its own."""
        refusals = [name for name in weights if self._entry.flags.get("refittable") not in ("all", name)]
        if refusals:
            raise ConfigError(
                f"{refusals[0]}: a constant of {self._entry.file}; build a refittable engine to replace it: "
                f"{self._rebuild(refittable=refusals[0])}"
            )
        with self._tuning:
            if self._tuned is None:
                self._tuned = self._load()
            return self._tuned

    def _rebuild(self, **changes: Any) -> str:
        return rebuild_command(self._bundle, self.spec, self._entry, **changes)


class Engine:
    """A deserialized engine with its lanes."""

    def __init__(
        self, tensorrt: TensorRT, path: Path, spec: GraphSpec, options: RunOptions, *, host_code: bool
    ) -> None:
        self.device = _device(options.device_id)
        self.device.activate()
        self.capture = GraphCapture(wanted=options.cuda_graph)
        self._tensorrt, self._spec, self._limit = tensorrt, spec, options.contexts
        self._runtime, self._engine = _deserialize(tensorrt, path, host_code=host_code)
        _require_contract(self._engine, spec, path)
        self._weights: dict[str, Array] = {}  # refitted so far
        self._lanes = 0
        self._idle: list[Lane] = []
        self._changed = threading.Condition()

    def accept(self, tensor: Tensor) -> Array | CudaTensor:
        """A tensor as lanes take it: on this device, or a contiguous array."""
        if isinstance(tensor, CudaTensor) and tensor.device is self.device:
            return tensor
        return np.ascontiguousarray(np.asarray(tensor))

    @contextmanager
    def lane(self, weights: Mapping[str, Array]) -> Iterator[Lane]:
        """Borrow a lane of the engine with these weights; waits while too many are out."""
        self.device.activate()
        lane = self._borrow(weights)
        try:
            yield lane
        finally:
            with self._changed:
                self._idle.append(lane)
                self._changed.notify_all()

    def _borrow(self, weights: Mapping[str, Array]) -> Lane:
        with self._changed:
            while not self._ready(weights):
                self._changed.wait()
            if not self._has(weights):
                self._refit(weights)
            if not self._idle:
                self._idle.append(Lane(self.device, self._engine, self._spec, self.capture))
                self._lanes += 1
            return self._idle.pop()

    def _ready(self, weights: Mapping[str, Array]) -> bool:
        if self._has(weights):
            return bool(self._idle) or self._lanes < self._limit
        return len(self._idle) == self._lanes  # refitting while work is pending is undefined

    def _has(self, weights: Mapping[str, Array]) -> bool:
        return all(name in self._weights and np.array_equal(self._weights[name], w) for name, w in weights.items())

    def _refit(self, weights: Mapping[str, Array]) -> None:
        trt, messages = self._tensorrt.trt, messages_of(self._tensorrt.trt)
        messages.clear()
        self._weights = {}
        refitter = trt.Refitter(self._engine, messages.logger)
        kept = {name: np.ascontiguousarray(array.copy()) for name, array in weights.items()}  # read until it is done
        taken = all(refitter.set_named_weights(name, trt.Weights(array)) for name, array in kept.items())
        if not taken or not refitter.refit_cuda_engine():
            raise DeviceError(f"{self._spec.name}: TensorRT cannot refit {', '.join(kept)}: {messages.first_error()}")
        self._weights = kept


_shared: weakref.WeakValueDictionary[object, Engine] = weakref.WeakValueDictionary()
_devices: dict[int, Device] = {}
_loading = threading.RLock()


def _share(path: Path, options: RunOptions, load: Callable[[], Engine]) -> Engine:
    """The engine of this file, loaded at most once per content and options."""
    status = path.stat()
    key = (path, status.st_mtime_ns, status.st_ino, options)
    with _loading:
        engine = _shared.get(key)
        if engine is None:
            engine = _shared[key] = load()
        return engine


def _device(index: int) -> Device:
    """One object per GPU: tensors of one session are at home in every other on the same GPU."""
    with _loading:
        if index not in _devices:
            _devices[index] = Device(index)
        return _devices[index]


def _deserialize(tensorrt: TensorRT, path: Path, *, host_code: bool) -> tuple[Any, Any]:
    messages = messages_of(tensorrt.trt)
    messages.clear()
    runtime = tensorrt.trt.Runtime(messages.logger)
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise BundleError(f"{path.name}: {tensorrt} cannot load it: {messages.first_error()}; build it again")
    return runtime, engine


def _require_contract(engine: Any, spec: GraphSpec, path: Path) -> None:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    got = (f"{n}: {_dtype(engine, n)} {list(engine.get_tensor_shape(n))}" for n in names)
    shapes = {t.name: [-1 if isinstance(d, str) else d for d in t.shape] for t in (*spec.inputs, *spec.outputs)}
    expected = (f"{t.name}: {t.dtype} {shapes[t.name]}" for t in (*spec.inputs, *spec.outputs))
    cure = "it is not an engine of this bundle's graph, build it again"
    require_same_io(path.name, "inputs and outputs", got, expected, cure=cure)


def _dtype(engine: Any, name: str) -> str:
    dtype = engine.get_tensor_dtype(name).name
    return _DTYPES.get(dtype, dtype)


def _fits(shape: tuple[int, ...], bounds: Mapping[str, Any]) -> bool:
    return all(low <= n <= high for n, low, high in zip(shape, bounds["min"], bounds["max"], strict=True))
