"""Export SAM-HQ checkpoints to verified ONNX bundles. Importing this loads neither torch nor onnx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import ExportConfig

if TYPE_CHECKING:
    from .pipeline import ExportResult, export_bundle

__all__ = ["ExportConfig", "ExportResult", "export_bundle"]


def __getattr__(name: str) -> Any:
    if name in ("export_bundle", "ExportResult"):
        from . import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
