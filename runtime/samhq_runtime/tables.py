"""Plain-text tables for terminals and READMEs."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str) -> str:
    """`text` with what a terminal would obey, or could not show, escaped; tabs and line feeds stay."""
    kept = "\n\t"
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; all but the first are right-aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = (header, rule, *rows)
    return "\n".join(
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in lines
    )


def shown(value: object) -> str:
    """A value of a file as a message shows it: cut off where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
