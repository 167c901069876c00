"""Tiny seeded models and bundles for the tests; one demo bundle per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from samhq_exporter.config import ExportConfig
from samhq_runtime.bundle import Bundle
from tests.support import official
from tests.support.bundles import export
from tests.support.models import save_checkpoint, tiny_sam


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
