"""Bundles made, and tampered with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from samhq_exporter.config import ExportConfig
from samhq_exporter.pipeline import export_bundle
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.bundle.files import file_entries
from samhq_runtime.manifest import MANIFEST_NAME
from samhq_runtime.manifest.seal import sealed


def export(checkpoint: Path, output: Path, **options: object) -> Bundle:
    config = dataclasses.replace(ExportConfig(checkpoint=checkpoint, output=output), **options)  # type: ignore[arg-type]
    return load_bundle(export_bundle(config).path)


def rehash(bundle: Path) -> None:
    """Make the manifest agree with the files again, as somebody who tampers with both would."""
    entries = {name: vars(entry) for name, entry in file_entries(bundle).items()}
    change_manifest(bundle, lambda content: content.update(files={name: entries[name] for name in content["files"]}))


def change_manifest(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON content of the manifest, and seal it again."""
    content = unsealed(bundle)
    change(content)
    (bundle / MANIFEST_NAME).write_text(sealed(content), encoding="utf-8")


def unsealed(bundle: Path) -> dict[str, Any]:
    """The JSON content of the manifest, without its own hash."""
    content = json.loads((bundle / MANIFEST_NAME).read_text(encoding="utf-8"))
    del content["manifest_sha256"]
    return content
