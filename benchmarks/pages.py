"""Tables in the docs are what the benchmarks print: each stands between two markers that carry its name."""

from __future__ import annotations

from pathlib import Path


def require_markers(page: Path, name: str) -> None:
    """SystemExit unless the page has both markers, in order; to be asked before hours of measuring."""
    _parts(page, name)


def write_between_markers(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`; SystemExit without these."""
    before, after = _parts(page, name)
    page.write_text(f"{before}{_begin(name)}\n{text}\n{_end(name)}{after}", encoding="utf-8")


def _parts(page: Path, name: str) -> tuple[str, str]:
    before, begin, rest = page.read_text(encoding="utf-8").partition(_begin(name))
    _, end, after = rest.partition(_end(name))
    if not begin or not end:
        raise SystemExit(f"{page}: expected {_begin(name)} and after it {_end(name)}; put both where the table belongs")
    return before, after


def _begin(name: str) -> str:
    return f"<!-- {name}: begin -->"


def _end(name: str) -> str:
    return f"<!-- {name}: end -->"
