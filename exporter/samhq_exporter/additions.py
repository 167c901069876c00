"""What an export can add to a bundle that is complete: TensorRT engines, and Triton models of it."""

from __future__ import annotations

from collections.abc import Sequence

from samhq_runtime.bundle import load_bundle
from samhq_runtime.engine import BuiltEngine, Progress, build_engines
from samhq_runtime.errors import interrupted
from samhq_runtime.nvidia.flavour import FLAVOURS, load_tensorrt
from samhq_runtime.triton.config import TritonOptions
from samhq_runtime.triton.repository import require_free, write_repository

from .config import ExportConfig
from .steps import Step


def require_possible(config: ExportConfig) -> None:
    """Say before the work, not after it, that engines or Triton models cannot be made.

    Raises:
        BackendUnavailable: TensorRT is missing.
        ConfigError: the Triton repository has such models already.
    """
    if config.engine:
        load_tensorrt(FLAVOURS[config.engine])
    if config.triton:
        require_free(config.triton, _triton_options(config))


def add(config: ExportConfig, *, step: Step, engine_progress: Progress) -> Sequence[BuiltEngine]:
    """Build the engines and write the Triton models that `config` asks for; returns the engines."""
    output = config.output_folder
    with interrupted(f"the bundle {output} is complete, what was to be added to it or made of it is not"):
        engines = build_engines(output, target=config.engine, progress=engine_progress) if config.engine else []
        if config.triton:
            with step("write Triton models"):
                write_repository(load_bundle(output), config.triton, _triton_options(config))
    return engines


def _triton_options(config: ExportConfig) -> TritonOptions:
    backend = "tensorrt" if config.engine == "tensorrt" else "onnxruntime"
    return TritonOptions(backend=backend, overwrite=config.overwrite)
