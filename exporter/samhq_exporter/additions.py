"""What an export can add to a bundle that is complete: a signature, TensorRT engines, and Triton models of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samhq_runtime.bundle import load_bundle
from samhq_runtime.engine import BuiltEngine, Progress, build_engines
from samhq_runtime.errors import interrupted
from samhq_runtime.nvidia.flavour import FLAVOURS, load_tensorrt
from samhq_runtime.triton.config import TritonOptions
from samhq_runtime.triton.repository import require_free, write_repository

from .config import ExportConfig
from .steps import Step


def require_possible(config: ExportConfig) -> None:
    """Say before the work, not after it, that a signature, engines or Triton models cannot be made.

    Raises:
        BackendUnavailable: TensorRT is missing, or what signs.
        ConfigError: no key to sign with in the file, or the Triton repository has such models already.
    """
    if config.sign:
        from samhq_runtime.bundle.signing import read_private_key

        read_private_key(config.sign)
    if config.engine:
        load_tensorrt(FLAVOURS[config.engine])
    if config.triton:
        require_free(config.triton, _triton_options(config))


def sign(config: ExportConfig, folder: Path) -> None:
    """Sign the bundle in `folder`, if `config` says so."""
    if config.sign:
        from samhq_runtime.bundle.signing import sign_bundle

        sign_bundle(folder, config.sign)


def add(config: ExportConfig, *, step: Step, engine_progress: Progress) -> Sequence[BuiltEngine]:
    """Build the engines and write the Triton models that `config` asks for; returns the engines."""
    output = config.output_folder
    with interrupted(f"the bundle {output} is complete, what was to be added to it or made of it is not"):
        engines = build_engines(output, target=config.engine, progress=engine_progress) if config.engine else []
        if engines:
            sign(config, output)
        if config.triton:
            with step("write Triton models"):
                write_repository(load_bundle(output), config.triton, _triton_options(config))
    return engines


def _triton_options(config: ExportConfig) -> TritonOptions:
    backend = "tensorrt" if config.engine == "tensorrt" else "onnxruntime"
    return TritonOptions(backend=backend, overwrite=config.overwrite)
