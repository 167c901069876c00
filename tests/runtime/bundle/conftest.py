"""A bundle that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from samhq_runtime import Bundle


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
