"""Child processes that try one thing each: a crash, a hang or a library's own exit ends them, not the doctor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..children import ask_child
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
    child = ask_child(f"{__package__}.probe", name, timeout)
    if child.death:
        return ProbeResult("broken", child.death)
    missing = _LIBRARY.search(child.errors)
    if child.value.get("status") == "broken" and missing:
        child.value["detail"] += f" (missing: {missing.group(1) or missing.group(2)})"
    return child.value
