"""Engines: a bundle's graphs -> TensorRT plans in the bundle, checked on the GPU where there is one.

In: a bundle, sizes and options. Out: entries of its manifest and the files they name. Needs numpy and TensorRT, no
torch, no onnx. Imports nvidia, session, bundle; sessions and bundles never import it.
"""

from ..nvidia.flavour import FLAVOURS
from ..nvidia.options import EngineOptions
from ..nvidia.profiles import Range
from .build import BuiltEngine, Progress, build_engines, no_progress, verify_built
from .report import EngineReport, report_engines

__all__ = [
    "FLAVOURS", "BuiltEngine", "EngineOptions", "EngineReport", "Progress", "Range", "build_engines", "no_progress",
    "report_engines", "verify_built",
]  # fmt: skip
