"""A contender's process: import, load, then run when told to.

    python -m benchmarks.contenders.child MODULE CONTENDER JOB SCENE

Commands are JSON lines on stdin, answers JSON lines on stdout: {"run": n} -> seconds; {"save": path} writes the last
result.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from samhq_runtime.bench.measuring import repeat
from samhq_runtime.bench.memory import host_memory

from .scene import read_scene


def main() -> None:
    module_name, contender, job, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print too; stdout is for the answers
    start = time.perf_counter()
    module = importlib.import_module(f"benchmarks.contenders.{module_name}")
    imported, imported_at = host_memory().resident, time.perf_counter()
    run = module.load(contender, job, read_scene(Path(folder)))
    loaded_at = time.perf_counter()
    _answer(answers, {"import_seconds": imported_at - start, "load_seconds": loaded_at - imported_at})
    results: list[Any] = []
    for line in sys.stdin:
        command = json.loads(line)
        seconds = []
        for _ in range(command.get("run", 0)):
            results.clear()  # else the old one counts in the peak of the next run
            seconds += repeat(lambda: results.append(run()), 1)
        if "save" in command:
            np.save(command["save"], results[-1])
        _answer(answers, {"seconds": seconds, "imported_bytes": imported, "peak_bytes": host_memory().peak})


def _answer(answers: Any, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=answers, flush=True)


if __name__ == "__main__":
    main()
