"""Recordings in the shape of TensorRT's Python API: what 10.3 has and 11.4 has not, and the other way round.

The member lists were read from the modules of `tensorrt-cu12-bindings` 10.3.0 and `tensorrt-cu13-bindings` 11.4.0.106.
A fake notes what the builder is asked for and refuses what the real one does not have. It builds nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from samhq_runtime.contract import GraphSpec, TensorSpec

COMMON_FLAGS = ("REFIT", "REFIT_INDIVIDUAL", "VERSION_COMPATIBLE", "TF32", "STRIP_PLAN", "DISABLE_TIMING_CACHE")
SHAPES: dict[str, dict[str, tuple[str, ...]]] = {
    "10.3.0": {
        "BuilderFlag": (*COMMON_FLAGS, "FP16", "BF16", "INT8", "FP8", "OBEY_PRECISION_CONSTRAINTS"),
        "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
        "HardwareCompatibilityLevel": ("NONE", "AMPERE_PLUS"),
        "config": (),
        "module": (),
    },
    "11.4.0.106": {
        "BuilderFlag": (*COMMON_FLAGS, "DISTRIBUTIVE_INDEPENDENCE", "MONITOR_MEMORY", "STRICT_NANS"),
        "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED", "PREFER_JIT_PYTHON_PLUGINS"),
        "HardwareCompatibilityLevel": ("NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"),
        "config": ("tiling_optimization_level",),
        "module": ("IStreamWriter",),
    },
}
_CONFIG = ("progress_monitor", "max_aux_streams", "builder_optimization_level", "hardware_compatibility_level")
_DTYPES = {"float32": "FLOAT", "float16": "HALF", "int64": "INT64"}


class Recorder:
    """What was asked of one fake module; `specs` are the graphs its parser knows, by file name."""

    def __init__(self, specs: dict[str, GraphSpec]) -> None:
        self.specs = specs
        self.network_flags: list[int] = []
        self.flags: set[str] = set()
        self.cleared: set[str] = set()
        self.attributes: dict[str, Any] = {}
        self.pools: dict[str, int] = {}
        self.profiles: list[dict[str, tuple[Any, ...]]] = []
        self.timing_caches: list[bytes] = []
        self.refittable: list[str] = []
        self.streamed = False
        self.plan: Callable[[Path], bytes] = lambda graph: b"a plan"


def fake_tensorrt(version: str, record: Recorder) -> ModuleType:
    """A module with the names of that version that the builder uses, and no others that tell versions apart."""
    shape = SHAPES[version]
    trt = ModuleType("tensorrt")
    trt.__version__ = version  # type: ignore[attr-defined]
    for name in ("BuilderFlag", "NetworkDefinitionCreationFlag", "HardwareCompatibilityLevel"):
        setattr(trt, name, enum.IntEnum(name, {member: i for i, member in enumerate(shape[name])}))
    trt.MemoryPoolType = enum.IntEnum("MemoryPoolType", {"WORKSPACE": 0, "TACTIC_DRAM": 5})  # type: ignore[attr-defined]
    trt.ILogger = type("ILogger", (), {"Severity": enum.IntEnum("Severity", "INTERNAL_ERROR ERROR WARNING INFO")})  # type: ignore[attr-defined]
    for name in ("IProgressMonitor", *shape["module"]):
        setattr(trt, name, type(name, (), {}))
    trt.Builder = lambda logger: _Builder(record, shape)  # type: ignore[attr-defined]
    trt.OnnxParser = lambda network, logger: _Parser(network, record)  # type: ignore[attr-defined]
    return trt


class _Builder:
    def __init__(self, record: Recorder, shape: dict[str, tuple[str, ...]]) -> None:
        self._record, self._shape = record, shape
        self.max_threads = 4

    def create_network(self, flags: int) -> _Network:
        self._record.network_flags.append(flags)
        return _Network(self._record)

    def create_builder_config(self) -> _Config:
        return _Config(self._record, (*_CONFIG, *self._shape["config"]))

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        return self._record.plan(network.file) if config.run_phases() else None

    def build_serialized_network_to_stream(self, network: _Network, config: _Config, writer: Any) -> bool:
        assert "IStreamWriter" in self._shape["module"], "not in this version"
        self._record.streamed = True
        plan = self._record.plan(network.file)
        return config.run_phases() and all(writer.write(piece) == len(piece) for piece in (plan[:3], plan[3:]))


class _Config:
    """Takes only the attributes the real class of that version has."""

    def __init__(self, record: Recorder, attributes: tuple[str, ...]) -> None:
        object.__setattr__(self, "_record", record)
        object.__setattr__(self, "_attributes", attributes)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._attributes:
            raise AttributeError(f"IBuilderConfig of this version has no {name}")
        self._record.attributes[name] = value

    def set_flag(self, flag: enum.IntEnum) -> None:
        self._record.flags.add(flag.name)

    def clear_flag(self, flag: enum.IntEnum) -> None:
        self._record.cleared.add(flag.name)

    def set_memory_pool_limit(self, pool: enum.IntEnum, size: int) -> None:
        self._record.pools[pool.name] = size

    def add_optimization_profile(self, profile: _Profile) -> int:
        self._record.profiles.append(profile.shapes)
        return len(self._record.profiles) - 1

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self._record.timing_caches.append(cache)
        return cache != b"of another driver"

    def get_timing_cache(self) -> _Config:
        return self

    def serialize(self) -> bytes:
        return self._record.timing_caches[-1] + b"+"

    def run_phases(self) -> bool:
        """Two nested phases; False once the monitor says stop."""
        monitor = self._record.attributes["progress_monitor"]
        monitor.phase_start("Building engine", None, 2)
        monitor.phase_start("Timing kernels", "Building engine", 2)
        going = all(monitor.step_complete("Timing kernels", step) for step in range(2))
        monitor.phase_finish("Timing kernels")
        going = going and monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Building engine")
        return going


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Any, ...]] = {}

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        self.shapes[name] = (smallest, usual, largest)


class _Network:
    def __init__(self, record: Recorder) -> None:
        self._record = record
        self.file = Path()
        self.inputs: list[_Tensor] = []
        self.outputs: list[_Tensor] = []

    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_input(self, index: int) -> _Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> _Tensor:
        return self.outputs[index]

    def mark_weights_refittable(self, name: str) -> bool:
        self._record.refittable.append(name)
        return True


class _Tensor:
    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self.dtype = enum.IntEnum("DataType", {_DTYPES[spec.dtype]: 0})(0)
        self.shape = tuple(-1 if isinstance(d, str) else d for d in spec.shape)


class _Parser:
    """Optional inputs become constants, as with the real parser."""

    num_errors = 0

    def __init__(self, network: _Network, record: Recorder) -> None:
        self._network, self._record = network, record

    def parse_from_file(self, path: str) -> bool:
        self._network.file = Path(path)
        spec = self._record.specs[Path(path).name]
        self._network.inputs = [_Tensor(tensor) for tensor in spec.inputs if not tensor.optional]
        self._network.outputs = [_Tensor(tensor) for tensor in spec.outputs]
        return True
