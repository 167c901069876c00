"""Options of a run, and what most tests share: tiny seeded checkpoints, and bundles of them and of the demo model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_runtime.bundle import Bundle
from tests.support import official
from tests.support.models import TINY, save_checkpoint, tiny_sam
from tests.support.parity import randomise
from tests.support.reference import official_sam
from tests.support.sam2_golden import golden_checkpoint
from tests.support.sam2_reference import official_sam2, save_official
from tests.support.shared import shared, shared_bundle

SAM2_MODELS = ("sam2", "hq_sam2")
TIERS = {"slow": "larger models, a minute each", "released": "released sizes at their full input, minutes each"}


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, models in TIERS.items():
        text = f"{models}, too; fail without the official packages"
        parser.addoption(f"--run-{marker}", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    official.required = any(config.getoption(f"--run-{marker}") for marker in TIERS)
    if hasattr(config.option, "loadscopereorder"):  # pytest-xdist would put the long files of few tests last
        config.option.loadscopereorder = False
    _share_processors(int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _share_processors(workers: int) -> None:
    """With as many threads each as there are processors, workers spend half of their time waiting for one another."""
    if workers > 1:
        threads = max(1, (os.cpu_count() or 1) // workers)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of child processes


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not TIERS.keys() & item.keywords)  # the longest first: no worker waits at the end
    for marker, models in TIERS.items():
        if config.getoption(f"--run-{marker}"):
            continue
        skip = pytest.mark.skip(reason=f"{models}; give --run-{marker}")
        for item in items:
            if marker in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tiny_sam(), tmp_path_factory.mktemp("checkpoint") / "sam_hq_tiny_sizes.pth")


@pytest.fixture(scope="session")
def tiny_bundle_of(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Bundle]:
    """By precision and token fusion; the checkpoint's own is `independent`."""

    def bundle_of(precision: str, token_fusion: str) -> Bundle:
        asked = None if token_fusion == "independent" else token_fusion
        return shared_bundle(tmp_path_factory, tiny_checkpoint, precision=precision, token_fusion=asked)

    return bundle_of


@pytest.fixture(scope="session")
def tiny_bundle(tiny_bundle_of: Callable[[str, str], Bundle]) -> Bundle:
    return tiny_bundle_of("fp32", "independent")


@pytest.fixture(scope="session")
def official_plain_sam() -> nn.Module:
    """The official SAM of the tiny sizes: no HQ features, no HQ token, three masks for multimask_output."""
    sam = official_sam(official.import_official("segment_anything"), TINY)
    randomise(sam, seed=11)
    return sam


@pytest.fixture(scope="session")
def plain_checkpoint(official_plain_sam: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "sam_tiny_sizes.pth"
    torch.save(official_plain_sam.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def plain_bundle(plain_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, plain_checkpoint)


@pytest.fixture(scope="session")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, DEMO_CHECKPOINT)


@pytest.fixture(scope="session")
def demo_bundle_fp16(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, DEMO_CHECKPOINT, precision="fp16")


@pytest.fixture(scope="session")
def demo_bundle_int8(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, DEMO_CHECKPOINT, precision="int8")


@pytest.fixture(scope="session")
def sam2_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`sam2` and `hq_sam2`, small."""
    return {model: golden_checkpoint(tmp_path_factory, model) for model in SAM2_MODELS}


@pytest.fixture(scope="session")
def sam2_bundle(sam2_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, sam2_checkpoints["sam2"])


@pytest.fixture(scope="session")
def hq_sam2_bundle(sam2_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, sam2_checkpoints["hq_sam2"])


@pytest.fixture(scope="session")
def hiera_tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """SAM 2.1 of a released size, with seeded weights."""
    checkpoint = shared(
        tmp_path_factory,
        "checkpoint-hiera-tiny",
        lambda folder: save_official(official_sam2("hiera_tiny"), folder / "sam2.1_hiera_tiny.pt"),
    )
    return shared_bundle(tmp_path_factory, checkpoint / "sam2.1_hiera_tiny.pt")
