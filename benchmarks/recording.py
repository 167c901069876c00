"""The figures of a benchmark in a JSON file that is whole at any moment, and what they were measured on.

A file holds `measured` (date, commit and machine of every run that wrote into it), `setting` (what all of its figures
have in common), and what its benchmark puts there. In older files some of that is missing, and their tables say so.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from samhq_runtime.bench.machine import describe_machine
from samhq_runtime.bundle import load_bundle
from samhq_runtime.files import write_whole
from samhq_runtime.machine.libraries import LIBRARIES

from .pages import ROOT

_CODE = ("benchmarks", "exporter", "runtime", "tests", ":!benchmarks/results")


@dataclass
class Record:
    """Figures under way; `content` is what `save` writes, `run` who measured what is new in it."""

    path: Path
    content: dict[str, Any]
    run: dict[str, Any]

    def require_setting(self, setting: Mapping[str, Any]) -> None:
        """Note what the figures have in common; SystemExit if those that are there are of something else."""
        now = json.loads(json.dumps(setting))
        known = self.content.setdefault("setting", now)
        if known != now:
            names = [name for name in {**known, **now} if known.get(name) != now.get(name)]
            differ = "; ".join(f"{name} {known.get(name)!r}, now {now.get(name)!r}" for name in names)
            raise SystemExit(
                f"{self.path}: holds figures of another setting ({differ}); --overwrite, or name another file"
            )

    def save(self) -> None:
        runs = self.content.setdefault("measured", [])
        if self.run not in runs:
            runs.append(self.run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.content, indent=1) + "\n"
        write_whole(self.path, lambda partial: partial.write_text(text, encoding="utf-8"))


def open_record(path: Path, *, resume: bool, overwrite: bool, libraries: Sequence[str] = ()) -> Record:
    """A new record, or with `resume` the one of `path`; SystemExit rather than losing figures or mixing processors."""
    run = describe_run(libraries)
    if not path.exists() or overwrite:
        return Record(path, {"measured": []}, run)
    if not resume:
        raise SystemExit(f"{path}: exists; --resume to go on with it, --overwrite to replace it, or name another file")
    content = read_record(path)
    for known in content.get("measured", []):
        if processors(known) and processors(known) != processors(run):
            there, here = ", ".join(processors(known)), ", ".join(processors(run))
            raise SystemExit(f"{path}: was measured on {there}, this is {here}; name another file")
    return Record(path, content, run)


def read_record(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise SystemExit(f"{path}: expected the JSON file of a benchmark; {e}") from None


def describe_run(libraries: Sequence[str]) -> dict[str, Any]:
    machine = describe_machine(libraries=tuple(dict.fromkeys((*LIBRARIES, *libraries))))
    return {"date": datetime.now(timezone.utc).date().isoformat(), "commit": current_commit(), "machine": machine}


def described(bundle: Path) -> dict[str, Any]:
    """Which bundle figures are of."""
    manifest = load_bundle(bundle).manifest
    return {
        "variant": manifest.variant,
        "precision": manifest.precision,
        "checkpoint_sha256": manifest.checkpoint["sha256"],
    }


def processors(run: Mapping[str, Any]) -> list[str]:
    """Names of the run's processor and GPUs, as far as they were recorded."""
    machine = run["machine"]
    cpu = [machine["cpu"]["model"]] if "cpu" in machine else []
    return cpu + [gpu["name"] for gpu in machine.get("gpus", [])]


def current_commit() -> str | None:
    """The commit of this checkout, with `+` if its code was changed since; None outside of git."""
    commit, changes = _git("rev-parse", "--short=7", "HEAD"), _git("status", "--porcelain", "--", *_CODE)
    return commit and commit + "+" * bool(changes)


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def caption(content: Mapping[str, Any]) -> str:
    """What the figures were measured on, as the line above their table."""
    whens: dict[str, list[str]] = {}
    for run in content.get("measured", []):
        whens.setdefault(_place(run["machine"]), []).append(_when(run))
    lines = [f"{place}; {', '.join(dict.fromkeys(found))}." for place, found in whens.items()]
    return " ".join(lines) or "Processor, versions, date and commit were not recorded."


def _when(run: Mapping[str, Any]) -> str:
    if "date" not in run:
        return "date and commit were not recorded"
    return f"{run['date']} at commit {run['commit'] or 'unknown'}"


def _place(machine: Mapping[str, Any]) -> str:
    parts = []
    if "cpu" in machine:
        cpu = machine["cpu"]
        features = f" ({', '.join(cpu['features'])})" if cpu.get("features") else ""
        parts.append(f"{cpu['cores_usable']} cores of {cpu['model']}{features}")
    parts += [f"{gpu['name']}, driver {gpu.get('driver', 'unknown')}" for gpu in machine.get("gpus", [])]
    software = [f"Python {machine['python']}"] if "python" in machine else []
    software += [f"{name} {version}" for name, version in machine.get("libraries", {}).items()]
    return "; ".join([*parts, *([", ".join(software)] if software else [])])
