"""Child processes that try one thing each: a crash, a hang or a library's own exit ends them, not the doctor."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..nvidia.flavour import FLAVOURS
from ..session.ort_providers import PROVIDERS
from ..session.providers import OPENVINO

_ENGINES = {f"engine:{flavour.name}": flavour.module for flavour in FLAVOURS.values()}
# Provider -> the module that it stands or falls with.
PROBES = {**dict.fromkeys(PROVIDERS, "onnxruntime"), OPENVINO: "openvino", **_ENGINES}
ON_GPU = (*(name for name, provider in PROVIDERS.items() if provider.memory), *_ENGINES)
_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[.\d]*|[\w-]+\.dll): cannot open shared object file|(\w+\.dll).*is missing")


@dataclass(frozen=True)
class ProbeResult:
    """`status` is works, absent (not installed), no GPU or broken; `detail` is a version, or what went wrong."""

    status: str
    detail: str


def probe(name: str, timeout: float) -> ProbeResult:
    """Compute one sum with a provider, in a child."""
    answer = _ask(name, timeout)
    return answer if isinstance(answer, ProbeResult) else ProbeResult(answer["status"], answer["detail"])


def ask_driver(timeout: float) -> Mapping[str, Any]:
    """`cuda` (the newest CUDA the driver runs), `driver` and `gpus`; with `error` if even asking went wrong."""
    answer = _ask("driver", timeout)
    return (
        {"cuda": None, "driver": None, "gpus": [], "error": answer.detail}
        if isinstance(answer, ProbeResult)
        else answer
    )


def _ask(name: str, timeout: float) -> Any:
    """The child's answer, or a broken ProbeResult if it gave none."""
    command = [sys.executable, "-m", f"{__package__}.probe", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return ProbeResult("broken", f"no answer in {timeout:.0f} s: it hangs")
    except OSError as e:
        return ProbeResult("broken", f"cannot start a process ({e.strerror})")
    lines = child.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines and child.returncode == 0 else None
    except ValueError:
        answer = None
    if answer is None:
        return ProbeResult("broken", _death(child.returncode, child.stderr))
    missing = _LIBRARY.search(child.stderr)
    if answer.get("status") == "broken" and missing:
        answer["detail"] += f" (missing: {missing.group(1) or missing.group(2)})"
    return answer


def _death(code: int, errors: str) -> str:
    last = (errors.strip().splitlines() or ["it said nothing"])[-1]
    if code < 0:
        return f"killed by {signal.Signals(-code).name}: {last}"
    return f"ended with {code}: {last}"
