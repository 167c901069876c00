"""The whole export on one screen: checkpoint -> graphs -> passes -> files -> parity -> bundle."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

from samhq_runtime import __version__
from samhq_runtime.bundle import NOT_ON_CPU, Bundle, load_bundle
from samhq_runtime.bundle.files import file_entries
from samhq_runtime.bundle.reference import REFERENCE_NAME
from samhq_runtime.contract import ModelSizes, image_encoder_spec, mask_decoder_spec
from samhq_runtime.engine import FLAVOURS, BuiltEngine, Progress, build_engines, no_progress
from samhq_runtime.errors import ConfigError, interrupted
from samhq_runtime.files import sha256_of
from samhq_runtime.frames.image_files import read_image
from samhq_runtime.hq_token import read_hq_token
from samhq_runtime.manifest import GraphEntry, Manifest, write_manifest
from samhq_runtime.nvidia.flavour import load_tensorrt
from samhq_runtime.triton.config import TritonOptions
from samhq_runtime.triton.repository import require_free, write_repository

from .architecture import PIXEL_MEAN, PIXEL_STD
from .bundle.graph_files import save_graph, save_with_cpu_form
from .bundle.staging import staged
from .config import DEMO_CHECKPOINT, ExportConfig
from .precision.calibration import calibration_set
from .precision.options import PrecisionOptions, Report
from .precision.policy import EMBEDDINGS_DTYPE, TABLE
from .precision.typed import Step, TypedGraph, typed_graphs
from .scenes.sample import central_boxes, default_scene, preview_scene
from .tracing.modules import graphs_of, model_sizes
from .tracing.trace import OPSET
from .verification.emulation import runnable
from .verification.preview import write_preview
from .verification.verify import ParityReport, require_parity, verify
from .weights.checkpoint import Checkpoint, TokenFile, checkpoint_of_model, load_checkpoint
from .weights.fetching import fetched

MASK_THRESHOLD = 0.0
_TOOLS = ("torch", "onnx", "onnx-ir", "onnxscript", "numpy")


@dataclass(frozen=True)
class ExportResult:
    """Where the bundle is, what its manifest said before engines were added, and how close it is to PyTorch."""

    path: Path
    manifest: Manifest
    parity: ParityReport
    engines: Sequence[BuiltEngine] = ()


def export_bundle(
    config: ExportConfig,
    *,
    model: nn.Module | None = None,
    step: Step = nullcontext,
    report: Report | None = None,
    engine_progress: Progress = no_progress,
) -> ExportResult:
    """Export a checkpoint to a verified bundle.

    Args:
        config: what to export, and where to.
        model: a `Sam` object of `segment_anything_hq` or `segment_anything` to export instead of a checkpoint;
            `config.output` must be given then, and `config.checkpoint` must not.
        step: called with the name of each step, returns a context manager around it (progress display).
        report: called with the precision of every node and what was measured of it, before the graphs are written.
        engine_progress: shows the progress of engines that are built, see `build_engines`.

    Raises:
        SamHqError: nothing was written, or only engines or Triton models were not; the message says why and what to do.
    """
    if model is not None:
        _require_of_memory(config)
    output = config.output_folder
    triton = _require_possible(config)
    with staged(output, overwrite=config.overwrite) as folder:
        source = fetched(config.checkpoint, step) if model is None else model
        with step("load checkpoint"):
            checkpoint = _load(config, source)
        graphs = _typed_graphs(config, checkpoint, folder, step, report)
        with step("write graphs"):
            entries = _write_graphs(graphs, folder, model_sizes(checkpoint.sam), config.precision)
        bundle = Bundle(folder, _manifest(checkpoint, config.precision, graphs, entries, folder))
        parity = _verified(bundle, checkpoint, config, step)
        manifest = replace(bundle.manifest, files=file_entries(folder), parity=_parity_json(parity, config.precision))
        write_manifest(folder, manifest)
    with interrupted(f"the bundle {output} is complete, what was to be added to it or made of it is not"):
        engines = build_engines(output, target=config.engine, progress=engine_progress) if config.engine else []
        if config.triton:
            with step("write Triton models"):
                write_repository(load_bundle(output), config.triton, triton)
    return ExportResult(output, manifest, parity, engines)


def _require_possible(config: ExportConfig) -> TritonOptions:
    """Engines and Triton models that cannot be made are said to be so before the work, not after it."""
    if config.engine:
        load_tensorrt(FLAVOURS[config.engine])
    backend = "tensorrt" if config.engine == "tensorrt" else "onnxruntime"
    triton = TritonOptions(backend=backend, overwrite=config.overwrite)
    if config.triton:
        require_free(config.triton, triton)
    return triton


def _typed_graphs(
    config: ExportConfig, checkpoint: Checkpoint, folder: Path, step: Step, report: Report | None
) -> dict[str, TypedGraph]:
    options = PrecisionOptions(
        precision=config.precision,
        token_fusion=checkpoint.token_fusion,
        keep_fp32=config.keep_fp32,
        calibration=calibration_set(config.calibration),
        clipping=config.clipping,
        report=report,
    )
    return typed_graphs(graphs_of(checkpoint.sam), model_sizes(checkpoint.sam), folder, options=options, step=step)


def _require_of_memory(config: ExportConfig) -> None:
    if config.checkpoint != DEMO_CHECKPOINT:
        raise ConfigError(f"got model= and the checkpoint {config.checkpoint}, expected one of them; drop the other")
    if config.output is None:
        raise ConfigError("model= has no file name to name the bundle after; give ExportConfig.output")


def _verified(bundle: Bundle, checkpoint: Checkpoint, config: ExportConfig, step: Step) -> ParityReport:
    """Parity of a bundle that passes its gate; what was compared is recorded and drawn into it."""
    with runnable(bundle, bundle.path) as here:
        with step("verify against PyTorch"):
            image, boxes = default_scene()
            parity = verify(here, checkpoint.sam, image, boxes, record=bundle.path / REFERENCE_NAME)
            if config.image is not None:  # the recording never holds a user's picture
                image = read_image(config.image)
                boxes = central_boxes(image)
                parity = verify(here, checkpoint.sam, image, boxes)
            require_parity(parity, config.precision)
        with step("draw preview"):
            pictured = preview_scene() if config.image is None else (image, boxes)
            write_preview(here, bundle.path / "preview.png", *pictured)
    return parity


def _load(config: ExportConfig, source: Path | nn.Module) -> Checkpoint:
    variant, token_fusion, image_size = config.variant, config.token_fusion, config.image_size
    if isinstance(source, Path):
        checkpoint = load_checkpoint(source, variant=variant, token_fusion=token_fusion, image_size=image_size)
    else:
        checkpoint = checkpoint_of_model(source, variant=variant, token_fusion=token_fusion, image_size=image_size)
    if config.hq_token is not None:
        decoder = checkpoint.sam_hq.mask_decoder
        dim, fusion = checkpoint.sam.arch.embed_dim, checkpoint.token_fusion
        tuned = read_hq_token(config.hq_token, embed_dim=dim, token_fusion=fusion)
        decoder.hq_token.weight.copy_(torch.from_numpy(tuned))
        checkpoint = replace(checkpoint, hq_token=TokenFile(config.hq_token.name, sha256_of(config.hq_token)))
    return checkpoint


def _write_graphs(
    graphs: Mapping[str, TypedGraph], folder: Path, sizes: ModelSizes, precision: str
) -> dict[str, GraphEntry]:
    entries = {}
    for make_spec in (image_encoder_spec, mask_decoder_spec):
        spec = make_spec(sizes, embeddings_dtype=EMBEDDINGS_DTYPE[precision])
        graph, path, cpu_path = graphs[spec.name], folder / f"{spec.name}.onnx", None
        graph.model.producer_name, graph.model.producer_version = "samhq-export", __version__
        if graph.policy.compute == "float32" and precision not in NOT_ON_CPU:  # bf16 has a float32 decoder
            cpu_path = save_with_cpu_form(graph.model, path)
        else:
            save_graph(graph.model, path)
        entries[spec.name] = GraphEntry(path.name, spec, cpu_path.name if cpu_path else None)
    return entries


def _manifest(
    checkpoint: Checkpoint,
    precision: str,
    graphs: Mapping[str, TypedGraph],
    entries: Mapping[str, GraphEntry],
    folder: Path,
) -> Manifest:
    return Manifest(
        variant=checkpoint.variant,
        precision=precision,
        token_fusion=checkpoint.token_fusion,
        sizes=model_sizes(checkpoint.sam),
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
        mask_threshold=MASK_THRESHOLD,
        opset=TABLE[precision].opset or OPSET,
        precision_policy={name: graph.policy.to_json() for name, graph in graphs.items()},
        graphs=entries,
        files=file_entries(folder),
        checkpoint=_origin(checkpoint),
        tools={
            "samhq-export": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in _TOOLS},
            "onnxruntime": onnxruntime.__version__,  # its distribution is onnxruntime or onnxruntime-gpu
        },
        parity={},
    )


def _origin(checkpoint: Checkpoint) -> dict[str, str]:
    """The weights file, and the tuned HQ token that was put into it."""
    origin = {"file": checkpoint.file_name, "sha256": checkpoint.sha256}
    if checkpoint.hq_token:
        origin |= {"hq_token_file": checkpoint.hq_token.name, "hq_token_sha256": checkpoint.hq_token.sha256}
    return origin


def _parity_json(parity: ParityReport, precision: str) -> dict[str, Any]:
    emulated = {"emulated": f"{precision} roundings, float32 kernels"} if precision in NOT_ON_CPU else {}
    return {**parity.to_json(), **emulated}
