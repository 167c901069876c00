"""Does a written bundle compute what its PyTorch model does? If not, it is not shipped."""

from __future__ import annotations

from pathlib import Path

from samhq_runtime.bundle import Bundle
from samhq_runtime.bundle.reference import REFERENCE_NAME
from samhq_runtime.frames.image_files import read_image

from ..model import PlainSam
from ..scenes.sample import central_boxes, default_scene, preview_scene
from ..steps import Step
from .emulation import runnable
from .preview import write_preview
from .verify import ParityReport, require_parity, verify

PREVIEW_NAME = "preview.png"


def gate(bundle: Bundle, sam: PlainSam, *, image: Path | None, step: Step) -> ParityReport:
    """Parity of a bundle that passes; what was compared is recorded in it, and drawn.

    Args:
        bundle: as written; `reference.npz` and `preview.png` are added to its folder.
        sam: the float32 model it was exported from.
        image: a user's picture to compare on and to draw instead of ours; the recording never holds it.
        step: progress display.

    Raises:
        ParityError: the graphs differ from `sam` by more than their precision explains.
    """
    with runnable(bundle, bundle.path) as here:
        with step("verify against PyTorch"):
            parity = verify(here, sam, *default_scene(), record=bundle.path / REFERENCE_NAME)
            if image is not None:
                pixels = read_image(image)
                boxes = central_boxes(pixels)
                parity = verify(here, sam, pixels, boxes)
            require_parity(parity, bundle.manifest.precision)
        with step("draw preview"):
            drawn = preview_scene() if image is None else (pixels, boxes)
            write_preview(here, bundle.path / PREVIEW_NAME, *drawn)
    return parity
