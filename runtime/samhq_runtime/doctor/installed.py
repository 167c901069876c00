"""Which packages are installed that have a part in running a bundle; read from their metadata, nothing is imported."""

from __future__ import annotations

import re
from importlib import metadata

_NAMES = {"numpy", "pillow", "safetensors", "openvino", "torch", "onnx", "protobuf"}
_PREFIXES = (
    "samhq-", "onnxruntime", "tensorrt", "cuda-", "nvidia-cu", "nvidia-pytriton", "tritonclient",
)  # fmt: skip


def installed_packages() -> dict[str, str]:
    """Normalised name -> version, sorted."""
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"] or "")).lower()
        if name in _NAMES or name.startswith(_PREFIXES):
            found[name] = distribution.version
    return dict(sorted(found.items()))
