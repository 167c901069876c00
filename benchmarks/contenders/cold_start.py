"""New processes up to the first mask of a bundle, as `samhq bench` measures them."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samhq_runtime.bench.cases import COLD_START, RepeatOptions, plan
from samhq_runtime.bench.runner import run_cases
from samhq_runtime.bench.sample_image import sample_image
from samhq_runtime.frames.image_files import write_png

from .scene import PICTURE_HW

_STARTS = 5


def cold_start(bundles: Sequence[Path], threads: int) -> list[dict[str, Any]]:
    """One row per bundle; the picture is a file of 1200 x 1800 pixels."""
    cases = plan(bundles, providers=["cpu"], measures=[COLD_START], prompts=[1], images=[1])
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        write_png(picture, sample_image(PICTURE_HW))
        return run_cases(
            cases,
            image=picture,
            repeats=RepeatOptions(),
            threads=threads,
            cold_starts=_STARTS,
            notice=lambda text: print(text, file=sys.stderr),
        )
