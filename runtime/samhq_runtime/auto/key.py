"""What a measurement of a bundle holds for: these files, on this machine, with these libraries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from ..machine.libraries import versions
from ..machine.processor import cpu_quota, describe_cpu
from ..manifest import manifest_sha256
from ..nvidia.gpu import current_gpu, driver_version

Key: TypeAlias = Mapping[str, str]

_LIBRARIES = (
    "samhq-export", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-cu12", "tensorrt-cu13",
    "tensorrt-rtx", "onnxruntime-ep-nv-tensorrt-rtx-cu12", "onnxruntime-ep-nv-tensorrt-rtx-cu13",
)  # fmt: skip
_NONE = "none"


def key_of(bundle: Path) -> Key:
    """Name -> what it is here: `bundle` (hash of its manifest, which has all others), `processor`, `gpu`, libraries."""
    cpu = describe_cpu()
    quota = cpu_quota()
    cores = f"{cpu.get('cores_usable')} cores" + (f", {quota:g} by quota" if quota else "")
    gpu = current_gpu()
    found = versions(_LIBRARIES)
    return {
        "bundle": manifest_sha256(bundle),
        "processor": f"{cpu['model']}, {cores} ({' '.join(cpu.get('features', []))})",
        "gpu": f"{gpu.name} ({gpu.compute_capability})" if gpu else _NONE,
        "driver": driver_version() or _NONE,
        **{name: found.get(name, _NONE) for name in _LIBRARIES},
    }


def differences(stored: Key, here: Key) -> list[str]:
    """What is not as it was, in words; empty if the measurement holds here."""
    changed = [name for name in here if stored.get(name) != here[name]]
    return ["another content of the bundle" if name == "bundle" else _words(name, stored, here) for name in changed]


def _words(name: str, stored: Key, here: Key) -> str:
    return f"{name} {stored.get(name, _NONE)}, this is {here[name]}"
