"""What is installed, which providers really run, what is known not to work together, and what to do about it.

Everything that could crash or hang (drivers, providers) runs in child processes with a time limit. Needs numpy alone.

In: this machine, and a bundle if one is asked about. Out: a `Report`. Imports manifest, nvidia, session, engine
and machine.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import ConfigError
from .advice import Advice, Processor, describe_processor, find_advice
from .children import ON_GPU, PROBES, ProbeResult, ask_driver, probe
from .installed import installed_packages
from .rules import Facts, Problem, find_problems

TIMEOUT = 120.0  # seconds; a first CUDA start-up compiles kernels


@dataclass(frozen=True)
class Report:
    """All that was found; `broken` are the providers that were asked for and do not work."""

    facts: Facts
    processor: Processor
    advice: Sequence[Advice]
    problems: Sequence[Problem]
    asked: Sequence[str]
    broken: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(asked: Sequence[str] = (), *, timeout: float = TIMEOUT) -> Report:
    """Look at this environment.

    Args:
        asked: providers that must work here; every known one is tried in any case.
        timeout: seconds each of them has.

    Raises:
        ConfigError: an unknown provider.
    """
    unknown = [name for name in asked if name not in PROBES]
    if unknown:
        raise ConfigError(f"--provider: got {unknown[0]!r}, expected of {', '.join(PROBES)}")
    with ThreadPoolExecutor(max_workers=4) as pool:
        driver = pool.submit(ask_driver, timeout)
        results = dict(zip(PROBES, pool.map(lambda name: probe(name, timeout), PROBES), strict=True))
    if not driver.result()["gpus"]:
        results = {name: _without_gpu(name, result) for name, result in results.items()}
    facts = Facts(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()}, {platform.machine()}",
        packages=installed_packages(),
        driver=driver.result(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        providers=results,
    )
    broken = tuple(name for name in asked if results[name].status != "works")
    processor = describe_processor()
    return Report(facts, processor, find_advice(processor, results), find_problems(facts), tuple(asked), broken)


def _without_gpu(name: str, result: ProbeResult) -> ProbeResult:
    """A provider that fails where there is no GPU is not broken for that."""
    return replace(result, status="no GPU") if name in ON_GPU and result.status == "broken" else result


__all__ = ["PROBES", "Advice", "Facts", "ProbeResult", "Problem", "Processor", "Report", "examine"]
