"""What is in a built engine: its kernels, read from the plan's text, or from TensorRT's EngineInspector without it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle, load_bundle
from ..errors import BundleError, ConfigError, SamHqError
from ..manifest import EngineEntry
from ..nvidia.flavour import FLAVOURS, load_tensorrt
from ..nvidia.inspector import inspect
from ..nvidia.messages import messages_of
from ..nvidia.plan import Program, read_plan


@dataclass(frozen=True)
class EngineReport:
    """An engine of the bundle and its programs, one for each group of GPUs that it was compiled for."""

    entry: EngineEntry
    programs: list[Program]


def report_engines(
    bundle: Bundle | str | Path, *, target: str = "tensorrt", graphs: tuple[str, ...] = ()
) -> list[EngineReport]:
    """Read the kernels of the engines that a bundle has.

    Args:
        bundle: a folder, or the result of `load_bundle`.
        target: `tensorrt` or `rtx`.
        graphs: names of graphs; all that have an engine if empty.

    Raises:
        ConfigError: no such engine.
        BundleError: a plan without text, where TensorRT cannot be asked either.
    """
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    found = [e for e in bundle.manifest.engines.values() if e.flavour == target and (not graphs or e.graph in graphs)]
    if not found:
        of = f" of {', '.join(graphs)}" if graphs else ""
        raise ConfigError(
            f"{bundle.path}: no {FLAVOURS[target].product} engine{of} to report on; build it: "
            f"samhq engine {bundle.path} --target {target}"
        )
    return [EngineReport(entry, _programs(bundle.path / entry.file, entry)) for entry in found]


def _programs(path: Path, entry: EngineEntry) -> list[Program]:
    try:
        return read_plan(path.read_bytes(), entry.file)
    except BundleError as e:
        try:
            return [_inspected(path, entry)]
        except SamHqError as refusal:
            raise BundleError(f"{e}, and TensorRT's EngineInspector cannot be asked: {refusal}") from None


def _inspected(path: Path, entry: EngineEntry) -> Program:
    tensorrt = load_tensorrt(FLAVOURS[entry.flavour])
    if tensorrt.gpu is None:
        raise BundleError("it needs the GPU that the engine was built for")
    trt, messages = tensorrt.trt, messages_of(tensorrt.trt)
    messages.clear()
    engine = trt.Runtime(messages.logger).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise BundleError(messages.first_error())
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return inspect(text, entry.file, entry.compute_capability or tensorrt.gpu.compute_capability)
