"""What several commands read from their arguments."""

from __future__ import annotations


def provider_names(text: str) -> tuple[str, ...]:
    """`cuda,cpu` -> ("cuda", "cpu"); whether they exist is the session's business."""
    return tuple(text.split(","))
