"""Versions of the distributions that decide speed."""

from __future__ import annotations

# `onnxruntime` and `onnxruntime-gpu` are one module from two of them.
LIBRARIES = ("samhq-export", "numpy", "Pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "cuda-python")


def versions(libraries: tuple[str, ...]) -> dict[str, str]:
    """Versions of those that are installed."""
    from importlib import metadata  # a tenth of the time that `import samhq_runtime` takes

    found = {}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
