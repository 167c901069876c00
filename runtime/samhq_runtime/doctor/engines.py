"""Whether the engines of a bundle run on this machine, judged by the manifest without loading them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..manifest import read_manifest
from ..nvidia.compatibility import command_for, differences
from ..nvidia.gpu import Gpu
from .rules import Facts


def judge_engines(bundle: Path, facts: Facts) -> dict[str, str]:
    """By engine: empty if it fits, else why not and how to build it again.

    Raises:
        BundleError: not a bundle.
    """
    manifest = read_manifest(bundle)
    verdicts = {}
    for name, entry in manifest.engines.items():
        result = facts.providers[f"engine:{entry.flavour}"]
        version = re.search(r"\d+(\.\d+)+", result.detail) if result.status == "works" else None
        if not version or not facts.gpus:
            verdicts[name] = f"cannot run here: {result.detail}"
            continue
        wrong = [differences(entry, version.group(), Gpu(**gpu)) for gpu in facts.gpus]
        command = command_for(Gpu(**facts.gpus[0]), entry, bundle=bundle, manifest=manifest)
        verdicts[name] = _verdict(wrong, facts, command)
    return verdicts


def _verdict(wrong: Sequence[Sequence[str]], facts: Facts, command: str) -> str:
    """By what keeps the engine from running on each GPU; sessions use the first one unless told otherwise."""
    fits = [index for index, found in enumerate(wrong) if not found]
    if not fits:
        return f"built for {'; '.join(wrong[0])}; build it again here: {command}"
    if fits[0] == 0:
        return ""
    return f"runs on GPU {fits[0]} ({facts.gpus[fits[0]]['name']}) only: --provider-option engine.device_id={fits[0]}"
