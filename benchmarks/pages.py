"""Tables in the docs are what the benchmarks print: each stands between two markers that carry its name."""

from __future__ import annotations

import re
from pathlib import Path

from samhq_runtime.files import write_whole

ROOT = Path(__file__).parents[1]


def require_markers(page: Path, name: str) -> None:
    """SystemExit unless the page has both markers, in order; to be asked before hours of measuring."""
    _parts(page, name)


def between_markers(page: Path, name: str) -> str:
    """What stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`; SystemExit without these."""
    return _parts(page, name)[1].strip("\n")


def write_between_markers(page: Path, name: str, text: str) -> None:
    """Replace what stands between the two markers."""
    before, _, after = _parts(page, name)
    content = f"{before}{_begin(name)}\n{text}\n{_end(name)}{after}"
    write_whole(page, lambda partial: partial.write_text(content, encoding="utf-8"))


def markers_of(page: Path) -> list[str]:
    return re.findall(r"<!-- ([\w ]+): begin -->", page.read_text(encoding="utf-8"))


def format_seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    before, begin, rest = page.read_text(encoding="utf-8").partition(_begin(name))
    between, end, after = rest.partition(_end(name))
    if not begin or not end:
        raise SystemExit(f"{page}: expected {_begin(name)} and after it {_end(name)}; put both where the table belongs")
    return before, between, after


def _begin(name: str) -> str:
    return f"<!-- {name}: begin -->"


def _end(name: str) -> str:
    return f"<!-- {name}: end -->"
