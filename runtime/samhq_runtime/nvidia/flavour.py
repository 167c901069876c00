"""Which TensorRT: the Python modules engines can be built with, and where their APIs differ, as data.

TensorRT 10 can build weakly typed networks, where builder flags choose the precision; 11 cannot, and has lost those
flags. Precision is a property of our graphs, so on 10 the network is made strongly typed and on 11 it is so anyway.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..errors import BackendUnavailable, ConfigError, reason_of
from ..flags import flag_of
from ..installing import install_command
from .gpu import Gpu, current_gpu
from .jetson import JETPACK_TENSORRT, on_jetson
from .options import EngineOptions


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One kind of TensorRT.

    Attributes:
        name: on the command line and in the manifest.
        product: in messages.
        module: the Python module.
        oldest: first version known to work, (major, minor).
        below: first major version that has not been tried.
        needs_gpu: whether every build needs a GPU.
        gpu_options: options that need a GPU although the build does not.
        refused: options this flavour cannot honour, and what to do instead.
        keeps_timing_cache: whether kernel timings are worth keeping; not where nothing is timed.
        default_capabilities: the compute capabilities an engine runs on when none are asked for; empty if that is
            the GPU it was built on.
        extra: ours that installs it.
        on_jetson: where it comes from on a Jetson.
    """

    name: str
    product: str
    module: str
    oldest: tuple[int, int]
    below: int
    needs_gpu: bool
    gpu_options: frozenset[str]
    refused: Mapping[str, str]
    keeps_timing_cache: bool
    default_capabilities: tuple[str, ...]
    extra: str
    on_jetson: str

    @property
    def install(self) -> str:
        """What to do where it is missing."""
        return self.on_jetson if on_jetson() else install_command(self.extra)

    def serves(self, compute_capability: str, chosen: Collection[str]) -> bool:
        """Whether an engine that was built for the `chosen` compute capabilities, or the default, runs on a GPU."""
        built_for = chosen or self.default_capabilities
        return not built_for or compute_capability in built_for


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            name="tensorrt",
            product="TensorRT",
            module="tensorrt",
            oldest=(10, 3),
            below=12,
            needs_gpu=True,
            gpu_options=frozenset(),
            refused={"compute_capabilities": "it builds for the GPU it runs on; --target rtx builds for others"},
            keeps_timing_cache=True,
            default_capabilities=(),
            extra="trt",
            on_jetson=JETPACK_TENSORRT,
        ),
        Flavour(
            name="rtx",
            product="TensorRT-RTX",
            module="tensorrt_rtx",
            oldest=(1, 4),
            below=2,
            needs_gpu=False,
            gpu_options=frozenset({"refittable"}),
            refused={
                "hardware_compatible": "its engines run on every RTX GPU; choose some with --compute-capability",
                "version_compatible": "it has no lean runtime; build one engine for each of its versions",
                "optimization_level": "it times nothing while it builds, and its engines are the same at every level",
            },
            keeps_timing_cache=False,  # kernels are chosen on the user's GPU when the engine is loaded
            default_capabilities=("8.0", "8.6", "8.9", "12.0", "12.1"),  # 7.5 on request, 9.0 not at all
            extra="rtx",
            on_jetson="it is not made for Jetsons; build with --target tensorrt there",
        ),
    )
}

# Where an option needs something that not every version has: its place in the module.
_NEEDS = {
    "hardware_compatible": "HardwareCompatibilityLevel.AMPERE_PLUS",
    "version_compatible": "BuilderFlag.VERSION_COMPATIBLE",
    "refittable": "BuilderFlag.REFIT_INDIVIDUAL",
    "compute_capabilities": "ComputeCapability",
}


@dataclass(frozen=True, kw_only=True)
class TensorRT:
    """A flavour that is installed: its module, its version and the GPU it would build on."""

    flavour: Flavour
    trt: Any
    version: str
    gpu: Gpu | None

    def __str__(self) -> str:
        return f"{self.flavour.product} {self.version}"

    def has(self, path: str) -> bool:
        """Whether the module has the attribute, as in `BuilderFlag.FP16`."""
        try:
            attrgetter(path)(self.trt)
        except AttributeError:
            return False
        return True

    @property
    def network_flags(self) -> int:
        """What `create_network` takes to make a strongly typed network."""
        if not self.has("BuilderFlag.FP16"):  # no flag could choose another precision: always strongly typed
            return 0
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def require(self, options: EngineOptions) -> None:
        """Raise unless every option that is set can be honoured by this flavour, this version and this machine."""
        for option in options.to_json():
            if option in self.flavour.refused:
                raise ConfigError(f"{flag_of(option)}: not with {self}; {self.flavour.refused[option]}")
            if not self.has(_NEEDS.get(option, "Builder")):
                raise ConfigError(f"{flag_of(option)}: {self} cannot do this; leave it out, or install a newer version")
            if option in self.flavour.gpu_options and self.gpu is None:
                raise BackendUnavailable(
                    f"{flag_of(option)}: needs an NVIDIA GPU also with {self}; build on a machine that has one"
                )


def load_tensorrt(flavour: Flavour) -> TensorRT:
    """Import the flavour's module and look at the GPU.

    Raises:
        BackendUnavailable: not installed, its libraries do not load, of a version that is not supported, or no GPU
            where the flavour needs one.
    """
    try:
        trt = importlib.import_module(flavour.module)
    except ModuleNotFoundError as e:
        raise BackendUnavailable(f"{flavour.product}: module {e.name} is missing; {flavour.install}") from e
    except (ImportError, OSError) as e:
        raise BackendUnavailable(
            f"{flavour.product} is installed but does not load ({reason_of(e)}); "
            "its libraries must be on the loader's path and of the version of its Python module"
        ) from e
    _require_version(flavour, trt.__version__)
    gpu = current_gpu()
    if flavour.needs_gpu and gpu is None:
        raise BackendUnavailable(
            f"no NVIDIA GPU (or no driver) here: {flavour.product} {trt.__version__} builds for the GPU it runs on; "
            "build on the target machine, or for RTX GPUs with --target rtx, which needs none"
        )
    return TensorRT(flavour=flavour, trt=trt, version=trt.__version__, gpu=gpu)


def _require_version(flavour: Flavour, version: str) -> None:
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
    if not flavour.oldest <= numbers < (flavour.below, 0):
        oldest = ".".join(map(str, flavour.oldest))
        raise BackendUnavailable(
            f"{flavour.product} {version}: expected at least {oldest} and below {flavour.below}; {flavour.install}"
        )
