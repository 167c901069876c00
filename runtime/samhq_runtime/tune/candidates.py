"""Which ways are worth a try here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Sequence

from ..machine.processor import cpu_quota, physical_cores, usable_cores
from ..manifest import Manifest
from ..session.ort_providers import NOT_ON_CPU, PROVIDERS
from ..session.providers import OPENVINO

_OPENVINO_DEVICES = {"cpu": ("f32", "bf16", "f16"), "gpu": ("f32", "f16")}
_CAPABILITIES = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
_WORTH_HALVING = 4  # cores; fewer are never too many


def providers_here(manifest: Manifest) -> list[str]:
    """The providers that are installed, or have engines in the bundle. Loads their libraries: for child processes."""
    return [*_of_onnxruntime(manifest.precision), *_of_openvino(), *_of_engines(manifest)]


def thread_counts(provider: str, asked: Sequence[int] = ()) -> list[int]:
    """Numbers of threads besides the usual one per physical core, for a provider on the CPU: `asked` if any are."""
    if provider != "cpu" and not provider.startswith(f"{OPENVINO}:cpu"):
        return []
    if asked:
        return list(asked)
    logical, physical = usable_cores() or 1, physical_cores() or 1
    usual = min(logical, physical)
    quota = max(1, round(cpu_quota() or usual))
    half = [usual // 2] if usual >= _WORTH_HALVING else []
    return sorted({logical, quota, *half} - {usual})


def _of_onnxruntime(precision: str) -> Iterator[str]:
    if importlib.util.find_spec("onnxruntime") is None:
        return
    available = importlib.import_module("onnxruntime").get_available_providers()
    for name, row in PROVIDERS.items():
        plugin = bool(row.plugin) and importlib.util.find_spec(row.plugin) is not None
        if (row.execution_provider in available or plugin) and not (name == "cpu" and precision in NOT_ON_CPU):
            yield name


def _of_openvino() -> Iterator[str]:
    if importlib.util.find_spec(OPENVINO) is None:
        return
    core = importlib.import_module(OPENVINO).Core()
    for device, precisions in _OPENVINO_DEVICES.items():
        if any(name.partition(".")[0] == device.upper() for name in core.available_devices):
            capabilities = core.get_property(device.upper(), "OPTIMIZATION_CAPABILITIES")
            yield from (f"{OPENVINO}:{device}:{p}" for p in precisions if _CAPABILITIES[p] in capabilities)


def _of_engines(manifest: Manifest) -> Iterator[str]:
    yield from dict.fromkeys(f"engine:{entry.flavour}" for entry in manifest.engines.values())
