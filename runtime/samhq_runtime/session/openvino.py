"""OpenVINO session: CPUs and Intel GPUs."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..closing import Closing
from ..contract import Array, GraphSpec, TensorSpec, require_same_io
from ..errors import BackendUnavailable, BundleError, ConfigError
from ..installing import install_command, unavailable
from .forks import follow_forks, left, never_end
from .protocol import ProviderOptions, Tensor, closed
from .providers import OPENVINO, require_chosen

try:
    import openvino as ov
except Exception as e:  # a broken native package raises whatever its loader does
    raise unavailable("openvino", e, install_command("openvino")) from e

from .openvino_positions import positions_as_bias  # imports openvino, so after the message above

DEVICES = {"cpu": "CPU", "gpu": "GPU", "auto": "AUTO", "npu": "NPU"}
PRECISIONS = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}  # the hint, and the capability a device must have for it
_PROVIDER = re.compile(f"{OPENVINO}(:(?P<device>{'|'.join(DEVICES)}))?(:(?P<precision>{'|'.join(PRECISIONS)}))?")
_DTYPES = {"float32": "f32", "float16": "f16", "int64": "i64"}


class OpenVinoSession(Closing):
    """One ONNX graph under OpenVINO.

    float32 arithmetic stays float32: OpenVINO would lower it by itself on processors with bf16, so the precision is
    always set. Safe to call from several threads at once; each call in progress has its own buffers.

    On CPUs the encoder is compiled for one image, which its fused attention wants, and works through several in turn.
    """

    def __init__(
        self,
        path: Path,
        spec: GraphSpec,
        *,
        providers: Sequence[str] = ("openvino",),
        threads: int = 0,
        provider_options: ProviderOptions | None = None,
    ) -> None:
        """Compile a graph.

        Args:
            path: the graph file.
            spec: the IO contract the file must fulfil.
            providers: one of the form `openvino[:DEVICE][:PRECISION]`, see DEVICES and PRECISIONS.
            threads: threads on the CPU; 0 means one per physical core.
            provider_options: properties of the compiled model, as OpenVINO calls them.

        Raises:
            ConfigError: a provider of another form, or beside another one.
            BackendUnavailable: no such device here, or it does not compute in that precision.
            BundleError, ContractError: the file cannot be compiled, or is not the graph of `spec`.
        """
        self.spec = spec
        require_chosen(provider_options, providers)
        device, precision = _parse(providers)
        core = ov.Core()
        _require_device(core, device, precision)
        properties = {**_properties(device, precision, threads), **(provider_options or {}).get(providers[0], {})}
        with _load_errors(path):
            model = core.read_model(path)
            self._defaults = _take_out_defaults(model, spec)
        self._require_contract(model, path)
        with _load_errors(path):
            self._one_by_one = device == "CPU" and _prepare_for_cpu(model)
            self._model: Any = core.compile_model(model, device, properties)
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self._left = False
        follow_forks(self)

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Array]:
        if self._left:
            raise left(self.spec, "OpenVINO")
        if self._model is None:
            raise closed(self.spec)
        self.spec.check_feeds(feeds)
        arrays = {name: np.ascontiguousarray(np.asarray(tensor)) for name, tensor in feeds.items()}
        if not self._one_by_one:
            return self._infer(arrays)
        (name, images), *_ = arrays.items()  # the encoder's only input
        results = [self._infer({name: images[i : i + 1]}) for i in range(len(images))]
        if len(results) == 1:
            return results[0]
        return {spec.name: np.concatenate([result[spec.name] for result in results]) for spec in self.spec.outputs}

    def _infer(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._model.create_infer_request()
        # Inputs are read in place: the call returns only when the device is done with them. Outputs are copies.
        results = request.infer({**self._defaults, **arrays}, share_inputs=True, share_outputs=False)
        outputs = {spec.name: results[spec.name] for spec in self.spec.outputs}
        self._idle.put(request)
        return outputs

    def keep(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**self(feeds)}

    def close(self) -> None:
        self._idle = queue.LifoQueue()
        self._model, self._left = None, False

    def leave(self) -> None:
        """See `Forkable`."""
        never_end(self._idle)
        self._idle = queue.LifoQueue()
        if self._model is not None:
            never_end(self._model)
            self._model, self._left = None, True

    def _require_contract(self, model: Any, path: Path) -> None:
        """The file's own inputs and outputs must be those of the contract."""
        for specs, ports, kind in (
            (self.spec.inputs, model.inputs, "inputs"),
            (self.spec.outputs, model.outputs, "outputs"),
        ):
            got, expected = map(_describe_port, ports), map(_describe, specs)
            require_same_io(path.name, kind, got, expected, cure="export the bundle again")


def _parse(providers: Sequence[str]) -> tuple[str, str]:
    """Device and precision of `("openvino:gpu:f16",)`, in OpenVINO's words."""
    if len(providers) != 1:
        raise ConfigError(f"providers {', '.join(providers)}: openvino runs a whole graph, give it alone")
    match = _PROVIDER.fullmatch(providers[0])
    if match is None:
        raise ConfigError(
            f"provider {providers[0]!r}: expected openvino[:DEVICE][:PRECISION] with DEVICE {', '.join(DEVICES)} "
            f"and PRECISION {', '.join(PRECISIONS)}, such as openvino:gpu:f16"
        )
    return DEVICES[match["device"] or "cpu"], match["precision"] or "f32"


@contextmanager
def _load_errors(path: Path) -> Iterator[None]:
    """Whatever OpenVINO raises inside (bare RuntimeErrors) -> BundleError."""
    try:
        yield
    except Exception as e:
        raise BundleError(f"{path.name}: OpenVINO cannot load it ({_reason(e)})") from e


def _prepare_for_cpu(model: Any) -> bool:
    """Give the encoder's attention the form that the CPU plug-in fuses; whether it takes one image at a time now."""
    if not positions_as_bias(model):
        return False
    model.reshape({port: [1, *port.partial_shape[1:]] for port in model.inputs})
    return True


def _properties(device: str, precision: str, threads: int) -> dict[str, Any]:
    """Of the compiled model, before those that the caller asks for."""
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if device == "CPU" and threads:
        properties["INFERENCE_NUM_THREADS"] = threads
    return properties


def _require_device(core: Any, device: str, precision: str) -> None:
    """OpenVINO falls back to float32 in silence where a device lacks the precision asked for; we refuse."""
    available = core.available_devices
    names = available if device == "AUTO" else [n for n in available if n.partition(".")[0] == device]
    if not names:
        raise BackendUnavailable(f"OpenVINO finds no {device} here; it has {', '.join(available) or 'no device'}")
    lacking = [n for n in names if PRECISIONS[precision] not in core.get_property(n, "OPTIMIZATION_CAPABILITIES")]
    if lacking:
        raise BackendUnavailable(f"{', '.join(lacking)} of this machine does not compute in {precision}; use f32")


def _take_out_defaults(model: Any, spec: GraphSpec) -> dict[str, Array]:
    """Turn the defaults of optional inputs back into inputs, and return their values.

    ONNX lets an initializer be an input at the same time; OpenVINO reads it as a constant.
    """
    constants = {op.get_friendly_name(): op for op in model.get_ops() if op.get_type_name() == "Constant"}
    defaults = {}
    for tensor in spec.inputs:
        constant = constants.get(tensor.name)
        if not tensor.optional or constant is None:
            continue
        parameter = ov.op.Parameter(constant.get_element_type(), constant.get_output_partial_shape(0))
        parameter.set_friendly_name(tensor.name)
        parameter.output(0).set_names({tensor.name})
        defaults[tensor.name] = constant.data.copy()
        constant.output(0).replace(parameter.output(0))
        model.add_parameters([parameter])
    model.validate_nodes_and_infer_types()
    return defaults


def _describe(spec: TensorSpec) -> str:
    return f"{spec.name}: {_DTYPES[spec.dtype]} {['?' if isinstance(d, str) else str(d) for d in spec.shape]}"


def _describe_port(port: Any) -> str:
    shape = ["?" if d.is_dynamic else str(d.get_length()) for d in port.partial_shape]
    return f"{port.any_name}: {port.element_type.to_string()} {shape}"


def _reason(error: Exception) -> str:
    """The line of OpenVINO's message that says what is wrong; the ones around it name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith(("Exception from", "Check"))), type(error).__name__)
