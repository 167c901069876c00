"""Writes the model repository: each model complete under its name, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ..bundle import Bundle
from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import ConfigError
from ..manifest import MANIFEST_NAME
from .config import TritonOptions, decoder_config, encoder_config, pipeline_config

_PIPELINE = '''"""Image and prompts in, masks out; samhq_runtime must be installed where Triton runs."""

from samhq_runtime.triton.pipeline import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def require_free(repository: Path, options: TritonOptions) -> None:
    """ConfigError if a model of one of the names is there and is not to be replaced."""
    taken = [name for name in _model_names(options) if (repository / name).exists()]
    if taken and not options.overwrite:
        raise ConfigError(f"{repository}: has {', '.join(taken)}; choose another --name, or give --overwrite")


def write_repository(bundle: Bundle, repository: Path, options: TritonOptions) -> list[Path]:
    """Write the models of `bundle` into a folder that may hold others; returns their folders.

    Raises:
        ConfigError: models of these names are there, or the folder cannot be written.
        BundleError: the tensorrt backend is asked for and the bundle has no engine.
    """
    require_free(repository, options)
    graphs = {name: _graph_file(bundle, name, options.backend) for name in (IMAGE_ENCODER, MASK_DECODER)}
    specs = {name: bundle.manifest.graphs[name].spec for name in graphs}
    encoder, decoder, pipeline = _model_names(options)
    try:
        return [
            _write(repository / encoder, encoder_config(specs[IMAGE_ENCODER], options), _copy(graphs[IMAGE_ENCODER])),
            _write(repository / decoder, decoder_config(specs[MASK_DECODER], options), _copy(graphs[MASK_DECODER])),
            _write(repository / pipeline, pipeline_config(bundle.manifest.sizes, options), _pipeline_files(bundle)),
        ]
    except OSError as e:
        raise ConfigError(f"{repository}: cannot be written ({e.strerror or e})") from e


def _model_names(options: TritonOptions) -> tuple[str, str, str]:
    return f"{options.name}_{IMAGE_ENCODER}", f"{options.name}_{MASK_DECODER}", options.name


def _graph_file(bundle: Bundle, graph: str, backend: str) -> Path:
    if backend == "tensorrt":
        return bundle.path / bundle.engine(graph, ("engine:tensorrt",)).file
    return bundle.path / bundle.manifest.graphs[graph].file


def _copy(graph: Path) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        suffix = ".onnx" if graph.suffix == ".onnx" else ".plan"
        shutil.copyfile(graph, folder / f"model{suffix}")
        weights = graph.with_name(f"{graph.name}.data")  # the graph names it, so its name stays
        if weights.exists():
            shutil.copyfile(weights, folder / weights.name)

    return fill


def _pipeline_files(bundle: Bundle) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "model.py").write_text(_PIPELINE, encoding="utf-8")
        shutil.copyfile(bundle.path / MANIFEST_NAME, folder / MANIFEST_NAME)

    return fill


def _write(model: Path, config: str, fill: Callable[[Path], None]) -> Path:
    """Version 1 of a model; Triton ignores names that start with a dot, so it never sees a half-written one."""
    partial, old = (model.with_name(f".{model.name}.{state}") for state in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    if old.exists() and not model.exists():  # of a run that was killed in between
        old.rename(model)
    try:
        (partial / "1").mkdir(parents=True)
        fill(partial / "1")
        (partial / "config.pbtxt").write_text(config, encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if model.exists():
            model.rename(old)
        partial.rename(model)
    except BaseException:  # Ctrl-C too
        if old.exists() and not model.exists():
            old.rename(model)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return model
