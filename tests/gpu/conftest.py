"""Tests that need an NVIDIA GPU: skipped with the reason without one, and a table of what they measured at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from samhq_runtime.nvidia.gpu import current_gpu, driver_cuda_version
from samhq_runtime.tables import format_table

_ROWS = pytest.StashKey[list[tuple[str, ...]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if current_gpu() is not None:
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU (or no driver) on this machine"))


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Adds a line to the table: what ran, mask IoU against the CPU, milliseconds of encoder and decoder."""

    def add(name: str, iou: float, encode_ms: float, decode_ms: float) -> None:
        request.config.stash[_ROWS].append((name, f"{iou:.4f}", f"{encode_ms:.2f}", f"{decode_ms:.2f}"))

    return add


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows, gpu = config.stash.get(_ROWS, []), current_gpu()
    if rows and gpu:
        terminalreporter.section(f"{gpu.name} ({gpu.compute_capability}), driver for CUDA {driver_cuda_version()}")
        header = ("ran on the GPU", "IoU with the CPU", "encoder ms", "decoder ms")
        terminalreporter.write_line(format_table(header, rows))
