"""Tiny seeded models and bundles for the tests; one demo bundle per session."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import official
import pytest
import torch
from parity import randomise

from samhq_exporter.architecture import Architecture
from samhq_exporter.config import ExportConfig
from samhq_exporter.model import Sam
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.weights.checkpoint import to_official_keys
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.bundle.files import file_entries
from samhq_runtime.manifest import MANIFEST_NAME
from samhq_runtime.manifest.seal import sealed

# Small, and awkward on purpose: windows that need padding, an odd number of heads, several global blocks.
TINY = Architecture(
    encoder_dim=48,
    depth=4,
    num_heads=3,
    global_attn_indexes=(1, 3),
    window_size=5,
    image_size=128,
    patch_size=16,
    embed_dim=64,
    decoder_mlp_dim=96,
    iou_head_dim=32,
    mask_in_chans=8,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--run-slow", action="store_true", help="full-size models too (minutes); fail without the official packages"
    )


def pytest_configure(config: pytest.Config) -> None:
    official.required = config.getoption("--run-slow")
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist would put the long files of few tests last
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "slow" not in item.keywords)  # the longest first, so that no worker waits at the end
    if config.getoption("--run-slow"):
        return
    skip = pytest.mark.skip(reason="full-size model; give --run-slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def tiny_sam(*, seed: int = 0, token_fusion: str = "independent") -> Sam:
    sam = Sam(TINY, token_fusion=token_fusion)
    randomise(sam, seed=seed)
    return sam.eval().requires_grad_(False)


def save_checkpoint(sam: Sam, path: Path) -> Path:
    torch.save(to_official_keys(sam.state_dict()), path)
    return path


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


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tiny_sam(), tmp_path_factory.mktemp("checkpoint") / "sam_hq_tiny_sizes.pth")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tiny_checkpoint, tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(ExportConfig.checkpoint, tmp_path_factory.mktemp("demo") / "bundle")


@pytest.fixture(scope="session")
def demo_bundle_fp16(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(ExportConfig.checkpoint, tmp_path_factory.mktemp("demo16") / "bundle", precision="fp16")
