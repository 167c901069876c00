"""The whole export on one screen: checkpoint -> graphs -> passes -> files -> parity -> bundle."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from samhq_runtime.bundle import Bundle
from samhq_runtime.engine import BuiltEngine, Progress, no_progress
from samhq_runtime.errors import ConfigError, ParityError
from samhq_runtime.manifest import Manifest

from . import additions
from .bundle.staging import staged
from .bundle.write import write_bundle, write_parity
from .config import DEMO_CHECKPOINT, ExportConfig
from .model import PlainSam
from .precision.calibration import calibration_set
from .precision.options import PrecisionOptions, Report
from .precision.typed import typed_graphs
from .steps import Step
from .tracing.modules import graphs_of, model_sizes
from .verification.gate import gate
from .verification.verify import ParityReport
from .weights.checkpoint import Checkpoint, checkpoint_of_model, load_checkpoint
from .weights.fetching import fetched
from .weights.tuned_token import with_hq_token

if TYPE_CHECKING:
    from .verification.locate import Located


@dataclass(frozen=True)
class ExportResult:
    """Where the bundle is, what its manifest said before engines were added, and how close it is to PyTorch.

    `notice` is a line about tensors of the checkpoint that are not used; empty if all are.
    """

    path: Path
    manifest: Manifest
    parity: ParityReport
    engines: Sequence[BuiltEngine] = ()
    notice: str = ""


def export_bundle(
    config: ExportConfig,
    *,
    model: nn.Module | None = None,
    step: Step = nullcontext,
    report: Report | None = None,
    located: Located | None = None,
    engine_progress: Progress = no_progress,
) -> ExportResult:
    """Export a checkpoint to a verified bundle.

    Args:
        config: what to export, and where to.
        model: a `Sam` object of `segment_anything_hq` or `segment_anything` to export instead of a checkpoint, also
            inside DataParallel, DistributedDataParallel or torch.compile; `config.output` must be given then, and
            `config.checkpoint` must not.
        step: called with the name of each step, returns a context manager around it (progress display).
        report: called with the precision of every node and what was measured of it, before the graphs are written.
        located: called with the first node of each graph that departs from float32, before graphs that miss their
            tolerance are refused; needs Polygraphy.
        engine_progress: shows the progress of engines that are built, see `build_engines`.

    Raises:
        SamHqError: nothing was written, or only engines or Triton models were not; the message says why and what to do.
    """
    if model is not None:
        _require_no_checkpoint(config)
    additions.require_possible(config)
    with staged(config.output_folder, overwrite=config.overwrite) as folder:
        checkpoint = _load(config, model, step)
        options = _precision_options(config, checkpoint, report)
        sam, sizes = checkpoint.sam, model_sizes(checkpoint.sam)
        graphs = typed_graphs(graphs_of(sam), sizes, folder, options=options, step=step)
        with step("write graphs"):
            bundle = write_bundle(folder, checkpoint, graphs, precision=config.precision)
        parity = _gated(bundle, sam, config.image, step, located)
        manifest = write_parity(bundle, parity.to_json())
        additions.sign(config, folder)
    engines = additions.add(config, step=step, engine_progress=engine_progress)
    return ExportResult(config.output_folder, manifest, parity, engines, checkpoint.notice)


def _gated(bundle: Bundle, sam: PlainSam, image: Path | None, step: Step, located: Located | None) -> ParityReport:
    try:
        return gate(bundle, sam, image=image, step=step)
    except ParityError:
        if located is not None:
            from .verification.locate import locate

            located(locate(bundle, sam, step=step))
        raise


def _require_no_checkpoint(config: ExportConfig) -> None:
    if config.checkpoint != DEMO_CHECKPOINT:
        raise ConfigError(f"got model= and the checkpoint {config.checkpoint}, expected one of them; drop the other")
    if config.base is not None:
        raise ConfigError(f"got model= and the base {config.base}, which is for checkpoints; drop it")
    if config.output is None:
        raise ConfigError("model= has no file name to name the bundle after; give ExportConfig.output")


def _load(config: ExportConfig, model: nn.Module | None, step: Step) -> Checkpoint:
    variant, token_fusion, image_size = config.variant, config.token_fusion, config.image_size
    path = fetched(config.checkpoint, step)
    base = None if config.base is None else fetched(config.base, step)
    with step("load checkpoint"):
        if model is None:
            checkpoint = load_checkpoint(
                path, base=base, variant=variant, token_fusion=token_fusion, image_size=image_size
            )
        else:
            checkpoint = checkpoint_of_model(model, variant=variant, token_fusion=token_fusion, image_size=image_size)
        return checkpoint if config.hq_token is None else with_hq_token(checkpoint, config.hq_token)


def _precision_options(config: ExportConfig, checkpoint: Checkpoint, report: Report | None) -> PrecisionOptions:
    return PrecisionOptions(
        precision=config.precision,
        token_fusion=checkpoint.token_fusion,
        keep_fp32=config.keep_fp32,
        calibration=calibration_set(config.calibration),
        clipping=config.clipping,
        report=report,
    )
