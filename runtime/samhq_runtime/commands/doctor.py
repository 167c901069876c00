"""`samhq doctor`: the report as tables or JSON; exit code 1 if something that was asked for does not work."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..doctor.children import PROBES
from ..errors import BackendUnavailable
from ..tables import format_table

if TYPE_CHECKING:
    from ..doctor import Report
    from ..doctor.advice import Processor


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    doctor = commands.add_parser(
        "doctor",
        help="what is installed, which providers really run, and what to do",
        description="Try every provider in a process of its own, and name combinations that are known to be bad.",
    )
    doctor.set_defaults(run=_doctor)
    doctor.add_argument(
        "--provider", action="append", default=[], metavar="NAME", help=f"must work, or fail; of {', '.join(PROBES)}"
    )
    doctor.add_argument("--bundle", type=Path, help="also say whether its engines run here; fail if one does not")
    doctor.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds per provider (default: 120)")
    doctor.add_argument("--json", action="store_true", help="the report as JSON")


def _doctor(options: argparse.Namespace) -> None:
    from ..doctor import examine
    from ..doctor.engines import judge_engines

    report = examine(options.provider, timeout=options.timeout)
    engines = judge_engines(options.bundle, report.facts) if options.bundle else {}
    if options.json:
        print(json.dumps({**report.to_json(), "engines": engines}, indent=2))
    else:
        _print(report, engines)
    unfit = [f"engine {name}: {text}" for name, text in engines.items() if text]
    broken = [f"{name}: {report.facts.providers[name].detail}" for name in report.broken] + unfit
    if broken:
        raise BackendUnavailable("; ".join(broken))


def _print(report: Report, engines: Mapping[str, str]) -> None:
    facts = report.facts
    gpus = ", ".join(f"{gpu['name']} ({gpu['compute_capability']})" for gpu in facts.gpus) or "none"
    system = [
        ("Python", facts.python),
        ("platform", facts.platform),
        *_processor(report.processor),
        ("NVIDIA driver", facts.driver.get("driver") or "-"),
        ("newest CUDA it runs", facts.driver.get("cuda") or "-"),
        ("GPUs", gpus),
        *facts.packages.items(),
    ]
    print(format_table(("", "value"), system))
    print()
    for name, result in facts.providers.items():
        print(f"{name:16} {result.status:7} {result.detail}")
    for name, text in engines.items():
        print(f"{name:16} {text or 'built for this machine'}")
    for problem in report.problems:
        print(f"\nproblem: {problem.what}\n   cure: {problem.do}")
    if not report.problems:
        print("\nno known problem")
    for advice in report.advice:
        print(f"\nfaster: {advice.what}\n    how: {advice.do}")


def _processor(processor: Processor) -> list[tuple[str, str]]:
    limit, quota = processor.memory_limit, processor.quota
    return [
        ("processor", processor.model),
        ("cores, physical", str(processor.physical_cores or "-")),
        ("cores this process may use", str(processor.usable_cores or "-")),
        ("container's share of them", f"{quota:g}" if quota else "no limit"),
        ("container's memory", f"{limit / 1e9:.1f} GB" if limit else "no limit"),
        ("multiplies in bfloat16", ", ".join(processor.bf16) or "no"),
        ("multiplies in int8", ", ".join(processor.int8) or "no"),
    ]
