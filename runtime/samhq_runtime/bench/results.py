"""The result file of `samhq bench`: written whole or not at all, checked when it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BenchmarkError
from ..files import write_text

SCHEMA_VERSION = 1


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    text = json.dumps({"schema_version": SCHEMA_VERSION, **results}, indent=1) + "\n"
    write_text(path, text)


def read_results(path: Path) -> dict[str, Any]:
    """Results of an earlier run; BenchmarkError if the file is not one."""
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        version = results["schema_version"]
        rows = [(row["measure"], row["provider"], row["seconds"]) for row in results["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BenchmarkError(f"{path}: not a result of `samhq bench` ({e})") from e
    if version != SCHEMA_VERSION or not rows:
        raise BenchmarkError(f"{path}: schema {version} with {len(rows)} rows; expected schema {SCHEMA_VERSION}, rows")
    return results
