"""The half of TensorRT that runs engines, on the GPU of cuda_fakes; calls as in the modules of 10.3 and 11.4.

"Engines" hold the path of their ONNX graph and compute it with ONNX Runtime on whatever lies at the addresses they were
given, once their stream gets there.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

from samhq_runtime.contract import GraphSpec, TensorSpec

from .cuda_fakes import Gpu
from .tensorrt_fakes import Recorder

_EACH = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64}


def add_runtime(trt: ModuleType, gpu: Gpu, record: Recorder) -> RuntimeRecord:
    """Give a fake TensorRT its runtime half, and let its builder write plans which that half can load."""
    noted = RuntimeRecord()
    # The real one says so too: `REFIT_INDIVIDUAL` makes only marked weights replaceable, `REFIT` all of them.
    record.plan = lambda graph: _plan(graph, list(record.refittable) or ["hq_token"] * ("REFIT" in record.flags))
    trt.Runtime = lambda logger: _Runtime(trt, gpu, record, noted, logger)  # type: ignore[attr-defined]
    trt.Refitter = lambda engine, logger: _Refitter(engine)  # type: ignore[attr-defined]
    trt.Weights = np.asarray  # type: ignore[attr-defined]
    return noted


class RuntimeRecord:
    """What was asked of the runtime; `distort` changes the outputs, as a wrong kernel would."""

    def __init__(self) -> None:
        self.loaded = 0
        self.contexts = 0
        self.executed = 0
        self.capturable = True
        self.distort: Callable[[str, np.ndarray], np.ndarray] = lambda name, array: array


def _plan(graph: Path, refittable: list[str]) -> bytes:
    return b"PLAN" + json.dumps({"graph": str(graph), "refittable": refittable}).encode() + b"END"


class _Runtime:
    def __init__(self, trt: ModuleType, gpu: Gpu, record: Recorder, noted: RuntimeRecord, logger: Any) -> None:
        self._trt, self._gpu, self._record, self._noted, self._logger = trt, gpu, record, noted, logger

    def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
        if not plan.startswith(b"PLAN") or not plan.endswith(b"END"):
            self._logger.log(self._trt.ILogger.Severity.ERROR, "Serialization assertion failed: the plan is cut short")  # type: ignore[attr-defined]
            return None
        self._noted.loaded += 1
        content = json.loads(plan[4:-3])
        spec = self._record.specs[Path(content["graph"]).name]
        return _Engine(self._gpu, self._noted, Path(content["graph"]), spec, content["refittable"])


class _Engine:
    def __init__(self, gpu: Gpu, noted: RuntimeRecord, graph: Path, spec: GraphSpec, refittable: list[str]) -> None:
        self.gpu, self.noted, self.refittable = gpu, noted, refittable
        inputs = [tensor for tensor in spec.inputs if not tensor.optional]
        self.tensors = {tensor.name: tensor for tensor in (*inputs, *spec.outputs)}
        self.inputs, self.outputs = [t.name for t in inputs], [t.name for t in spec.outputs]
        self.constants: dict[str, np.ndarray] = {}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    @property
    def num_io_tensors(self) -> int:
        return len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        names = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64"}
        return enum.Enum("DataType", _EACH)[names[self.tensors[name].dtype]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(d, str) else d for d in self.tensors[name].shape)

    def create_execution_context(self) -> _Context:
        self.noted.contexts += 1
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self.active_optimization_profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.active_optimization_profile = index
        self._shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return name in self._engine.inputs

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes = {}
        for given, shape in self._shapes.items():
            sizes.update(zip(self._engine.tensors[given].shape, shape, strict=True))
        tensor: TensorSpec = self._engine.tensors[name]
        return tuple(sizes.get(d, -1) if isinstance(d, str) else d for d in tensor.shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return name in self._engine.tensors and address != 0

    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine
        if stream in engine.gpu.capturing and not engine.noted.capturable:
            return False
        shapes = {name: self.get_tensor_shape(name) for name in engine.tensors}
        addresses = dict(self._addresses)
        engine.gpu.enqueue(stream, lambda: self._compute(shapes, addresses))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        engine = self._engine
        engine.noted.executed += 1
        at = {
            name: engine.gpu.array(addresses[name], shapes[name], engine.tensors[name].dtype) for name in engine.tensors
        }
        feeds = {name: at[name].copy() for name in engine.inputs}
        results = engine.session.run(engine.outputs, {**feeds, **engine.constants})
        for name, array in zip(engine.outputs, results, strict=True):
            at[name][...] = engine.noted.distort(name, array)


class _Refitter:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._weights: dict[str, np.ndarray] = {}

    def set_named_weights(self, name: str, weights: np.ndarray) -> bool:
        self._weights[name] = weights
        return name in self._engine.refittable

    def refit_cuda_engine(self) -> bool:
        assert not any(self._engine.gpu.streams.values()), "refitting while work is pending is undefined"
        self._engine.constants.update({name: array.copy() for name, array in self._weights.items()})
        return True
