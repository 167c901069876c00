"""ONNX Runtime session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ..closing import Closing
from ..contract import Array, GraphSpec, TensorSpec, require_same_io
from ..errors import BackendUnavailable, BundleError, DeviceError, SamHqError, reason_of
from ..installing import install_command, unavailable
from .forks import follow_forks, left, never_end
from .ort_providers import PROVIDERS, device_id_of, options_of, require_known
from .protocol import Borrowed, Place, ProviderOptions, Tensor, closed
from .providers import require_chosen

try:
    import onnxruntime as ort
except Exception as e:  # a broken native package raises whatever its loader does
    raise unavailable("onnxruntime", e, f"{install_command('cpu')} (or [gpu] for NVIDIA GPUs, not both)") from e

_DTYPES = {name: f"tensor({name})" for name in ("float16", "int64", "uint8", "bool")} | {"float32": "tensor(float)"}
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")


class OrtSession(Closing):
    """One ONNX graph under ONNX Runtime, with exactly the providers that were asked for.

    What it keeps is in the memory of the first provider's device (IOBinding); on the CPU that is a plain array. In a
    forked child a session of the CPU alone opens itself again when it is called; others raise BackendUnavailable.
    """

    def __init__(
        self,
        path: Path,
        spec: GraphSpec,
        *,
        providers: Sequence[str] = ("cpu",),
        threads: int = 0,
        provider_options: ProviderOptions | None = None,
    ) -> None:
        """Load the graph.

        Raises:
            ConfigError: an unknown provider, or an option that it cannot honour.
            BackendUnavailable: a provider that is not there or does not load.
            BundleError, ContractError: not a graph, or not one of this contract.
        """
        self.spec = spec
        require_known(providers)
        require_chosen(provider_options, providers)
        options = {name: options_of(name, spec, (provider_options or {}).get(name, {})) for name in providers}
        memory = PROVIDERS[providers[0]].memory
        self.place: Place | None = (memory, device_id_of(options[providers[0]])) if memory else None
        self._first = providers[0]
        self._path = path
        self._load: Callable[[], Any] = partial(_load, path, options, threads=threads)
        self._session = self._load()
        self._left, self._opening = False, threading.Lock()
        follow_forks(self)
        self._require_providers([PROVIDERS[name].execution_provider for name in providers])
        self._require_contract(path)

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Array]:
        session = self._open_here()
        self.spec.check_feeds(feeds)
        if not any(isinstance(tensor, OrtTensor) for tensor in feeds.values()):
            names = [output.name for output in self.spec.outputs]
            arrays = {name: np.asarray(tensor) for name, tensor in feeds.items()}
            with self._failures():
                return self._checked(dict(zip(names, session.run(names, arrays), strict=True)))
        outputs = self._run_bound(session, feeds, "cpu", 0)
        named = zip(self.spec.outputs, outputs, strict=True)
        return self._checked({output.name: value.numpy() for output, value in named})

    def keep(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.place is None:
            return {**self(feeds)}
        session = self._open_here()
        self.spec.check_feeds(feeds)
        values = self._run_bound(session, feeds, *self.place)
        kept = zip(self.spec.outputs, values, strict=True)
        return {output.name: OrtTensor(value, np.dtype(output.dtype), self.place) for output, value in kept}

    def put(self, array: Array) -> OrtTensor:
        """See `Neighbourly`."""
        assert self.place is not None
        self._open_here()
        with self._failures():
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), *self.place)
        return OrtTensor(value, array.dtype, self.place)

    def beside(self, path: Path, spec: GraphSpec) -> OrtSession:
        """See `Neighbourly`."""
        assert self.place is not None
        self._open_here()
        provider, number = PROVIDERS[self._first].beside or self._first, self.place[1]
        options = {provider: {"device_id": str(number)}} if number else None
        return OrtSession(path, spec, providers=(provider,), provider_options=options)

    def close(self) -> None:
        self._session, self._left = None, False

    def leave(self) -> None:
        """See `Forkable`."""
        self._opening = threading.Lock()  # whoever held it is not here
        if self._session is not None:
            never_end(self._session)
            self._session, self._left = None, True

    def _open_here(self) -> Any:
        """The session of this process."""
        session = self._session
        if session is not None:
            return session
        with self._opening:
            if self._left and self.place is not None:
                raise left(self.spec, "a GPU's context")
            if self._left and not self._path.exists():
                raise left(self.spec, "a private copy of its file")
            if self._left:
                self._session, self._left = self._load(), False
            if self._session is None:
                raise closed(self.spec)
            return self._session

    def _run_bound(self, session: Any, feeds: Mapping[str, Tensor], device: str, device_id: int) -> list[Any]:
        """Run with every output left on `device`; inputs that are on this session's device stay there."""
        binding = session.io_binding()
        arrays = []  # the binding borrows their memory
        for name, tensor in feeds.items():
            if isinstance(tensor, OrtTensor) and tensor.place == self.place:
                binding.bind_ortvalue_input(name, tensor.value)
            elif isinstance(tensor, Borrowed):
                binding.bind_input(name, *tensor.place, tensor.dtype.type, tensor.shape, tensor.address)
            else:
                arrays.append(np.ascontiguousarray(np.asarray(tensor)))
                binding.bind_cpu_input(name, arrays[-1])
        for output in self.spec.outputs:
            binding.bind_output(output.name, device, device_id)
        with self._failures():
            binding.synchronize_inputs()
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return list(binding.get_outputs())

    def _checked(self, outputs: dict[str, Array]) -> dict[str, Array]:
        """A graph may compute other shapes than it declares."""
        for output in self.spec.outputs:
            output.check(outputs[output.name], {})
        return outputs

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """What ONNX Runtime raises while it runs a graph, as errors of ours."""
        try:
            yield
        except (SamHqError, MemoryError):
            raise
        except Exception as e:  # classes of its own without a public common base
            reason = reason_of(e)
            if self.place is not None:
                raise DeviceError(f"{self.spec.name}: ONNX Runtime failed on the device ({reason})") from e
            if any(word in str(e) for word in _NO_MEMORY):
                raise MemoryError(f"{self.spec.name}: {reason}") from e
            raise BundleError(
                f"{self.spec.name}: ONNX Runtime cannot run it ({reason}); export the bundle again"
            ) from e

    def _require_providers(self, wanted: list[str]) -> None:
        """ONNX Runtime falls back to the CPU with a warning when a provider fails to load; we refuse instead."""
        missing = [name for name in wanted if name not in self._session.get_providers()]
        if missing:
            raise BackendUnavailable(f"{', '.join(missing)} failed to load here; `samhq doctor` says what is missing")

    def _require_contract(self, path: Path) -> None:
        """The file's own inputs and outputs must be those of the contract."""
        optional = tuple(s for s in self.spec.inputs if s.optional)
        required = tuple(s for s in self.spec.inputs if not s.optional)
        for specs, actual, kind in (
            (required, self._session.get_inputs(), "inputs"),
            (optional, self._session.get_overridable_initializers(), "optional inputs"),
            (self.spec.outputs, self._session.get_outputs(), "outputs"),
        ):
            got, expected = map(_describe_actual, actual), map(_describe, specs)
            require_same_io(path.name, kind, got, expected, cure="export the bundle again")


class OrtTensor:
    """An output in the memory of a provider's device; see `DeviceTensor`."""

    def __init__(self, value: Any, dtype: np.dtype[Any], place: tuple[str, int]) -> None:
        self.value, self.dtype, self.place = value, dtype, place
        self.shape = tuple(value.shape())

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def numpy(self) -> Array:
        """A copy on the host."""
        return np.array(self.value.numpy())

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; no stream to wait for, since results are complete."""
        if self.place[0] != "cuda":
            raise AttributeError("not in the memory of a CUDA device")
        data = (self.value.data_ptr(), False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": data, "strides": None, "version": 3}

    def __dlpack__(self, *, stream: object = None) -> object:
        """A capsule on the same memory; booleans are uint8 in it. Results are complete: no stream waits for them."""
        return self.value.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, number = self.value.__dlpack_device__()
        return kind, number

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a tensor on a device cannot become an array without a copy")
        return self.numpy().astype(dtype or self.dtype, copy=False)


def _load(path: Path, options: Mapping[str, Mapping[str, str]], *, threads: int) -> Any:
    """The session; plug-in providers are registered first."""
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.enable_mem_pattern = False  # its one block for all activations is larger than the arena's own reuse
    session_options.log_severity_level = 3  # its warnings are about its own optimiser, not the user's doing
    available = ort.get_available_providers()
    built_in: list[tuple[str, dict[str, str]]] = []
    for name, values in options.items():
        provider = PROVIDERS[name].execution_provider
        if provider in available:
            built_in.append((provider, dict(values)))
        else:
            session_options.add_provider_for_devices(_plugin_devices(name, available), dict(values))
    if any(PROVIDERS[name].memory for name in options) and hasattr(ort, "preload_dlls"):
        with redirect_stdout(StringIO()):  # finds CUDA and cuDNN that pip installed; prints what it does not find
            ort.preload_dlls()
    try:
        if len(built_in) < len(options):  # plug-ins are in the session options already, in their order
            return ort.InferenceSession(str(path), session_options)
        return ort.InferenceSession(str(path), session_options, providers=built_in)
    except Exception as e:  # onnxruntime raises classes of its own without a public common base
        raise BundleError(f"{path.name}: ONNX Runtime cannot load it ({reason_of(e)})") from e


def _plugin_devices(name: str, available: Sequence[str]) -> list[Any]:
    """The devices of a provider that comes as a package of its own; BackendUnavailable if it does not load."""
    row = PROVIDERS[name]
    try:
        library = row.plugin_library()
    except ModuleNotFoundError as e:
        raise BackendUnavailable(
            f"provider {name} is not in this onnxruntime (it has {', '.join(available)}); {row.install}"
        ) from e
    try:
        registered = {device.ep_name for device in ort.get_ep_devices()}
        if row.execution_provider not in registered:
            ort.register_execution_provider_library(row.execution_provider, library)
        devices = [d for d in ort.get_ep_devices() if d.ep_name == row.execution_provider]
    except Exception as e:  # a library that does not load, or an onnxruntime older than plug-ins
        raise BackendUnavailable(
            f"provider {name} does not load ({reason_of(e)}); run `samhq doctor --provider {name}`"
        ) from e
    if not devices:
        raise BackendUnavailable(f"provider {name} finds no device here; run `samhq doctor --provider {name}`")
    return devices


def _describe(spec: TensorSpec) -> str:
    return f"{spec.name}: {_DTYPES[spec.dtype]} {[str(d) for d in spec.shape]}"


def _describe_actual(node: Any) -> str:
    return f"{node.name}: {node.type} {[str(d) for d in node.shape]}"
