"""ONNX graph -> TensorRT network -> serialized engine (a plan)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..callbacks import Show
from ..contract import GraphSpec, TensorSpec, require_same_io
from ..errors import BackendUnavailable, BundleError, ConfigError
from ..nvidia.flavour import TensorRT
from ..nvidia.messages import messages_of
from ..nvidia.options import EngineOptions
from ..nvidia.profiles import Profile
from .progress import make_monitor

Write = Callable[[Any], object]  # takes any buffer

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32"}
_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ParsedGraph:
    """A graph as TensorRT understood it. The network borrows the parser's memory: keep both until it is built.

    Attributes:
        fixed_inputs: optional inputs of the contract that the engine will hold as constants (`hq_token`: the parser
            takes an initializer for a constant even where the graph lists it as an input; refitting replaces it).
    """

    tensorrt: TensorRT
    file: Path
    builder: Any
    network: Any
    parser: Any
    fixed_inputs: tuple[str, ...]


def parse_graph(tensorrt: TensorRT, file: Path, spec: GraphSpec) -> ParsedGraph:
    """Parse an ONNX file into a strongly typed network.

    Raises:
        BundleError: an operator TensorRT does not know, or a damaged file.
        ContractError: not the inputs and outputs of the contract.
    """
    trt, messages = tensorrt.trt, messages_of(tensorrt.trt)
    messages.clear()
    builder = trt.Builder(messages.logger)
    network = builder.create_network(tensorrt.network_flags)
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse_from_file(str(file)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reason = _describe_parser_error(errors[0]) if errors else messages.first_error()
        raise BundleError(f"{file.name}: {tensorrt} cannot read it: {reason}")
    _require_contract(network, spec, file)
    inputs = {network.get_input(i).name for i in range(network.num_inputs)}
    fixed = tuple(tensor.name for tensor in spec.inputs if tensor.name not in inputs)
    return ParsedGraph(
        tensorrt=tensorrt, file=file, builder=builder, network=network, parser=parser, fixed_inputs=fixed
    )


def build_plan(
    graph: ParsedGraph,
    profiles: Sequence[Profile],
    options: EngineOptions,
    *,
    timings: bytes | None,
    show: Show,
    stop: threading.Event,
    write: Write,
) -> bytes | None:
    """Build the engine and hand its bytes to `write`.

    Args:
        timings: a timing cache to start from, b"" to start one, None to keep none.
        show: gets progress, from other threads.
        stop: set to end the build; it then returns without having written a whole plan.

    Returns:
        The timing cache after the build, None if none is kept.

    Raises:
        BackendUnavailable: the builder failed; the message holds its first error.
        OSError: from `write`.
    """
    trt, messages = graph.tensorrt.trt, messages_of(graph.tensorrt.trt)
    messages.clear()
    config = graph.builder.create_builder_config()
    _set_options(graph, config, options)
    for profile in profiles:
        _add_profile(graph, config, profile)
    if timings is not None and not config.set_timing_cache(config.create_timing_cache(timings), False):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    monitor = make_monitor(trt, show, stop)
    config.progress_monitor = monitor
    built = _stream(graph, config, write) if options.low_memory else _serialize(graph, config, write)
    if not built and not stop.is_set():
        hint = "; give a larger --workspace, or smaller ranges" if messages.out_of_memory else ""
        raise BackendUnavailable(f"{graph.file.name}: {graph.tensorrt} cannot build it: {messages.first_error()}{hint}")
    return bytes(config.get_timing_cache().serialize()) if timings is not None and built else None


def _describe_parser_error(error: Any) -> str:
    text = " ".join(str(error.desc()).split())
    operator, node = error.node_operator(), error.node_name()
    return f"operator {operator} (node {node!r}): {text}" if operator else text


def _require_contract(network: Any, spec: GraphSpec, file: Path) -> None:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    names = {tensor.name for tensor in inputs}
    expected_inputs = [tensor for tensor in spec.inputs if not tensor.optional or tensor.name in names]
    for actual, expected, kind in ((inputs, expected_inputs, "inputs"), (outputs, spec.outputs, "outputs")):
        got, wanted = map(_describe_actual, actual), map(_describe, expected)
        require_same_io(file.name, kind, got, wanted, cure="export the bundle again")


def _describe(tensor: TensorSpec) -> str:
    return f"{tensor.name}: {tensor.dtype} {[-1 if isinstance(d, str) else d for d in tensor.shape]}"


def _describe_actual(tensor: Any) -> str:
    return f"{tensor.name}: {_DTYPES.get(tensor.dtype.name, tensor.dtype.name)} {list(tensor.shape)}"


def _set_options(graph: ParsedGraph, config: Any, options: EngineOptions) -> None:
    trt = graph.tensorrt.trt
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace * _MIB)
    if options.low_memory:
        config.max_aux_streams = 0
        graph.builder.max_threads = 1
    if graph.tensorrt.has("ProfilingVerbosity"):  # what `samhq engine --report` reads
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.tf32:  # TensorRT's own default is to allow it
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.refittable == "all":
        config.set_flag(trt.BuilderFlag.REFIT)
    elif options.refittable in graph.fixed_inputs:
        config.set_flag(trt.BuilderFlag.REFIT_INDIVIDUAL)
        if not graph.network.mark_weights_refittable(options.refittable):
            raise BundleError(f"{graph.file.name}: no weights named {options.refittable!r}; export the bundle again")
    _set_compute_capabilities(graph, config, options.compute_capabilities)


def _set_compute_capabilities(graph: ParsedGraph, config: Any, capabilities: Sequence[str]) -> None:
    if not capabilities:
        return
    known = graph.tensorrt.trt.ComputeCapability.__members__
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        name = f"SM{capability.replace('.', '')}"
        if name not in known or not config.set_compute_capability(known[name], index):
            numbers = sorted(int(member[2:]) for member in known if member.startswith("SM"))
            choices = ", ".join(f"{number // 10}.{number % 10}" for number in numbers)
            raise ConfigError(
                f"--compute-capability: {graph.tensorrt} does not know {capability}; choose from {choices}"
            )


def _add_profile(graph: ParsedGraph, config: Any, shapes: Profile) -> None:
    profile = graph.builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.min, shape.opt, shape.max)
    if config.add_optimization_profile(profile) < 0:
        raise BackendUnavailable(
            f"{graph.file.name}: {graph.tensorrt} refuses the profile: {messages_of(graph.tensorrt.trt).first_error()}"
        )


def _serialize(graph: ParsedGraph, config: Any, write: Write) -> bool:
    plan = graph.builder.build_serialized_network(graph.network, config)
    if plan is None:
        return False
    write(plan)
    return True


def _stream(graph: ParsedGraph, config: Any, write: Write) -> bool:
    """Write the plan while it is serialized: it is never in memory as a whole (where this TensorRT can do that)."""
    if not graph.tensorrt.has("IStreamWriter"):
        return _serialize(graph, config, write)
    failures: list[OSError] = []
    writer = _make_writer(graph.tensorrt.trt, write, failures)
    built = bool(graph.builder.build_serialized_network_to_stream(graph.network, config, writer))
    if failures:
        raise failures[0]
    return built


def _make_writer(trt: Any, write: Write, failures: list[OSError]) -> Any:
    class Writer(trt.IStreamWriter):  # type: ignore[misc]
        """Nothing may be raised through C++: a failure is kept, and reported as zero bytes written."""

        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)

        def write(self, data: Any) -> int:
            try:
                write(data)
            except OSError as e:
                failures.append(e)
                return 0
            return len(data)

    return Writer()
