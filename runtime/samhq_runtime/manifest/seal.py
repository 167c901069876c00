"""The hash that a manifest carries of its own text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..errors import BundleError
from ..file_kinds import LINE_ENDINGS

_SEAL = ',\n  "manifest_sha256": "'  # the last key of the text, and the hash of all that stands before it
_SEAL_END = '"\n}\n'


def sealed(content: Mapping[str, Any]) -> str:
    """The text of a manifest: `content` as JSON, then `manifest_sha256`, the hash of the text before that key."""
    text = json.dumps(content, indent=2).removesuffix("\n}")
    return f"{text}{_SEAL}{_seal_of(text)}{_SEAL_END}"


def require_seal(text: str) -> None:
    """BundleError unless the text ends with the hash of what stands before it."""
    if not _is_sealed(text):
        if "\r\n" in text and _is_sealed(text.replace("\r\n", "\n")):
            raise BundleError(f"manifest.json: damaged or changed (its line endings); {LINE_ENDINGS}")
        raise BundleError(
            "manifest.json: damaged or changed (its text is not the one manifest_sha256 was made of); "
            "copy the bundle again or export it again"
        )


def _is_sealed(text: str) -> bool:
    before, _, after = text.rpartition(_SEAL)
    return after == _seal_of(before) + _SEAL_END


def _seal_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
