"""A tuning as text."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract import IMAGE_ENCODER
from ..parity import ENGINE_TOLERANCES
from ..tables import format_table
from .run import Tried, Tuning, described

_MEGABYTE = 1e6


def report(tuning: Tuning, precision: str) -> str:
    """The table of all that was tried, and why some cannot be chosen."""
    options = tuning.options
    tolerance = options.min_iou or ENGINE_TOLERANCES[precision].iou
    on_gpu = any(tried.gpu_bytes for tried in tuning.tried)
    header = ["graph", "way", "ms", "peak MB", *(["GPU MB"] if on_gpu else []), "least IoU", ""]
    rows = [row_of(tried, tuning.chosen, on_gpu=on_gpu) for tried in tuning.tried]
    reasons = [f"{t.graph}, {described(t)}: {t.reason}" for t in tuning.tried if t.reason]
    title = (
        f"{tuning.bundle.resolve().name} ({precision}): encoder of one image, decoder of {options.prompts} prompts; "
        f"masks with an IoU of at least {tolerance} with PyTorch's may be chosen"
    )
    return "\n\n".join([title, format_table(header, rows), *(["\n".join(reasons)] if reasons else [])])


def row_of(tried: Tried, chosen: Sequence[Tried], *, on_gpu: bool = False) -> list[str]:
    """One row of the table, its reason apart."""
    if tried in chosen:
        verdict = "chosen"
    elif tried.reason:
        verdict = "failed" if tried.mask_iou is None else "not close enough"
    else:
        verdict = ""
    milliseconds = "-" if tried.seconds is None else f"{tried.seconds * 1000:.1f}"
    iou = "-" if tried.mask_iou is None else f"{tried.mask_iou:.4f}"
    memory = [_megabytes(tried.host_bytes), *([_megabytes(tried.gpu_bytes)] if on_gpu else [])]
    graph = "encoder" if tried.graph == IMAGE_ENCODER else "decoder"
    return [graph, described(tried), milliseconds, *memory, iou, verdict]


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / _MEGABYTE:.0f}"
