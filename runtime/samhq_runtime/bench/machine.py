"""What a result was measured on: processor, clocks, power mode, GPU, driver, library versions."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from ..machine.libraries import LIBRARIES, versions
from ..machine.processor import describe_cpu
from ..machine.system_files import read_fact
from .jetson import describe_jetson
from .nvml import describe_gpus


def describe_machine(root: Path = Path("/"), *, libraries: tuple[str, ...] = LIBRARIES) -> dict[str, Any]:
    """Everything that is known of this machine; what is unknown is left out."""
    found = {
        "cpu": describe_cpu(root),
        "memory_gb": _memory_gb(root),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": versions(libraries),
        "gpus": describe_gpus(),
        "jetson": describe_jetson(root),
    }
    return {name: value for name, value in found.items() if value}


def _memory_gb(root: Path) -> float | None:
    total = [line.split()[1] for line in read_fact(root / "proc/meminfo").splitlines() if line.startswith("MemTotal:")]
    return round(int(total[0]) / 1e6, 1) if total else None
