"""Whether an engine runs here: same TensorRT, GPU and platform as it was built with, and still the bundle's graph."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from ..errors import BackendUnavailable, BundleError
from ..manifest import EngineEntry, Manifest
from .flavour import FLAVOURS, TensorRT
from .gpu import Gpu
from .rebuild import rebuild_command

_AMPERE = 8.0


def current_platform() -> str:
    """As `linux-x86_64`, `linux-aarch64` (Jetson) or `windows-amd64`."""
    return f"{platform.system()}-{platform.machine()}".lower()


def require_runs_here(
    entry: EngineEntry, *, bundle: Path, manifest: Manifest, tensorrt: TensorRT, gpu: Gpu | None
) -> Gpu:
    """Compare what the manifest says of an engine with this machine; the GPU, if all is well.

    Raises:
        BundleError: the graph was replaced after the engine was built.
        BackendUnavailable: no GPU, or another TensorRT, GPU or platform; says which, and how to build it again.
    """
    command = command_for(gpu, entry, bundle=bundle, manifest=manifest)
    file = manifest.graphs[entry.graph].file
    if manifest.files[file].sha256 != entry.graph_sha256:
        raise BundleError(f"{entry.file}: was built from another {file} than this bundle's; build it again: {command}")
    if gpu is None:
        raise BackendUnavailable(
            f"{entry.file}: engines need an NVIDIA GPU, and none can be used here (`samhq doctor`)"
        )
    wrong = differences(entry, tensorrt.version, gpu)
    if wrong:
        raise BackendUnavailable(f"{entry.file}: built for {'; '.join(wrong)}; build it again here: {command}")
    return gpu


def command_for(gpu: Gpu | None, entry: EngineEntry, *, bundle: Path, manifest: Manifest) -> str:
    """The command that builds an engine again; for this GPU, should the engine have been built for others only."""
    chosen = entry.flags.get("compute_capabilities", ())
    unserved = gpu is not None and not FLAVOURS[entry.flavour].serves(gpu.compute_capability, chosen)
    changes = {"compute_capabilities": [gpu.compute_capability]} if gpu is not None and unserved else {}
    return rebuild_command(bundle, manifest.graphs[entry.graph].spec, entry, **changes)


def differences(entry: EngineEntry, version: str, gpu: Gpu) -> list[str]:
    """What keeps an engine from running with that version of its flavour on that GPU, in words."""
    product = FLAVOURS[entry.flavour].product
    here = f"{gpu.name} ({gpu.compute_capability})"
    found = []
    if not _same_version(entry, version):
        found.append(f"{product} {entry.version}, this is {version}")
    if not _same_gpu(entry, gpu):
        found.append(f"{entry.gpu} ({entry.compute_capability}), this is {here}")
    flavour, chosen = FLAVOURS[entry.flavour], entry.flags.get("compute_capabilities", ())
    if not flavour.serves(gpu.compute_capability, chosen):
        found.append(f"compute capability {', '.join(chosen or flavour.default_capabilities)}, this is {here}")
    if entry.platform not in ("", current_platform()):
        found.append(f"{entry.platform}, this is {current_platform()}")
    return found


def _same_version(entry: EngineEntry, version: str) -> bool:
    """Engines load in the version that built them, version-compatible ones in later ones of the same major version."""
    built, here = (tuple(int(n) for n in re.findall(r"\d+", text)[:3]) for text in (entry.version, version))
    if entry.flags.get("version_compatible"):
        return built[:1] == here[:1] and here >= built
    return built == here


def _same_gpu(entry: EngineEntry, gpu: Gpu) -> bool:
    if entry.gpu is None:  # built ahead of time
        return True
    if entry.flags.get("hardware_compatible"):
        return float(gpu.compute_capability) >= _AMPERE
    return (entry.gpu, entry.compute_capability) == (gpu.name, gpu.compute_capability)
