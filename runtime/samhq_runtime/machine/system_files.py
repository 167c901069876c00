"""What the system says of itself in files."""

from __future__ import annotations

from pathlib import Path


def read_fact(path: Path) -> str:
    """The text of a small file, stripped; empty where it is not there or may not be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
