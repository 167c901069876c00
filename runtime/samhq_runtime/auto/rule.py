"""What `auto` means where nothing was measured: a fixed order, in the bundle's own precision."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import BackendUnavailable, BundleError
from ..manifest import Manifest
from ..nvidia.compatibility import require_runs_here
from ..nvidia.flavour import FLAVOURS, load_tensorrt
from ..nvidia.gpu import current_gpu
from ..session.ort_providers import NOT_ON_CPU, PROVIDERS
from ..session.providers import OPENVINO

# Said in full: left to itself OpenVINO computes in bf16 where the processor can.
OPENVINO_FLOAT32 = f"{OPENVINO}:cpu:f32"


def by_rule(bundle: Path, manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """The providers of each graph: engines that fit this GPU, else CUDA, else OpenVINO, else ONNX Runtime on the CPU.

    OpenVINO gets the encoder alone where ONNX Runtime is there to run the decoder, which it does in less time
    (docs/benchmarks.md). What is chosen is looked at, not tried: should it fail, its own message says why.
    """
    flavour = _fitting_flavour(bundle, manifest)
    if flavour:
        return _both(f"engine:{flavour}")
    if _cuda():
        return _both("cuda")
    cpu = _installed("onnxruntime") and manifest.precision not in NOT_ON_CPU
    if not _installed("openvino"):
        return _both("cpu")
    return {IMAGE_ENCODER: (OPENVINO_FLOAT32,), MASK_DECODER: ("cpu" if cpu else OPENVINO_FLOAT32,)}


def _both(provider: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys((IMAGE_ENCODER, MASK_DECODER), (provider,))


def _fitting_flavour(bundle: Path, manifest: Manifest) -> str:
    """The first flavour with an engine of each graph that runs here; empty if there is none."""
    for name, flavour in FLAVOURS.items():
        engines = [entry for entry in manifest.engines.values() if entry.flavour == name]
        if {entry.graph for entry in engines} != set(manifest.graphs):
            continue
        try:
            tensorrt = load_tensorrt(flavour)
            for entry in engines:
                require_runs_here(entry, bundle=bundle, manifest=manifest, tensorrt=tensorrt, gpu=tensorrt.gpu)
        except (BackendUnavailable, BundleError):
            continue
        return name
    return ""


def _cuda() -> bool:
    """Whether there is an NVIDIA GPU, and an ONNX Runtime that was built for it."""
    if current_gpu() is None or not _installed("onnxruntime"):
        return False
    try:
        import onnxruntime
    except Exception:  # a broken native package raises whatever its loader does; the session says so if it is chosen
        return False
    return PROVIDERS["cuda"].execution_provider in onnxruntime.get_available_providers()


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
