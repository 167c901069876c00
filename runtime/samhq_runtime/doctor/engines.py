"""Whether the engines of a bundle run on this machine, judged by the manifest without loading them."""

from __future__ import annotations

import re
from pathlib import Path

from ..engine.compatibility import differences
from ..engine.gpu import Gpu
from ..engine.rebuild import rebuild_command
from ..manifest import read_manifest
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
        wrong = differences(entry, version.group(), Gpu(**facts.gpus[0]))
        command = rebuild_command(bundle, manifest.graphs[entry.graph].spec, entry)
        verdicts[name] = f"built for {'; '.join(wrong)}; build it again here: {command}" if wrong else ""
    return verdicts
