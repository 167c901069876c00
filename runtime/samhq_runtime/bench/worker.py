"""The process one case is measured in: python -m samhq_runtime.bench.worker JOB.json ANSWER.json"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

_READY = time.monotonic()  # Python runs, and `samhq_runtime` itself is imported, with numpy


def main() -> int:
    from ..errors import SamHqError

    job_path, answer_path = map(Path, sys.argv[1:])
    job = json.loads(job_path.read_text())
    try:
        answer = _measure(job)
    except SamHqError as e:
        answer = {"error": str(e)}
    except KeyboardInterrupt:  # Ctrl-C goes to the parent too, which says so
        return 130
    answer_path.write_text(json.dumps(answer))
    return 0


def _measure(job: dict[str, Any]) -> dict[str, Any]:
    from .cases import COLD_START, Case, RepeatOptions

    case = Case(**job["case"])
    if case.measure == COLD_START:
        return _cold_start(case, job)
    from ..auto import ways_of
    from ..manifest import read_manifest
    from .measuring import measure
    from .workloads import WORKLOADS

    def load() -> Callable[[], object]:
        return WORKLOADS[case.measure](case, Path(job["image"]), job["threads"])

    bundle = Path(case.bundle)
    runs = str(ways_of(bundle, read_manifest(bundle), case.provider))
    repeats = RepeatOptions(**job["repeats"])
    return {**measure(load, replace(repeats, warm_ups=repeats.warm_ups_on(runs))), "runs": runs}


def _cold_start(case: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds from the parent's decision to start this process to the first mask, and where they went."""
    from ..frames.image_files import read_image
    from ..predictor import Predictor

    imported = time.monotonic()
    image = read_image(Path(job["image"]))
    read = time.monotonic()
    with Predictor(case.bundle, providers=case.provider, threads=job["threads"]) as predictor:
        loaded = time.monotonic()
        predictor.set_image(image)
        height, width = image.shape[:2]
        predictor.predict(box=[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height], multimask_output=False)
        done = time.monotonic()
    from .memory import host_memory

    stages = {
        "start_python": _READY - job["started"],
        "import": imported - _READY,
        "read_image": read - imported,
        "load_bundle": loaded - read,
        "first_mask": done - loaded,
    }
    return {"seconds": done - job["started"], "stages": stages, "peak_bytes": host_memory().peak}


if __name__ == "__main__":
    raise SystemExit(main())
