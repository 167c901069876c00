"""What a test needs and a machine may lack: a reason to skip on a developer's machine, a failure in CI.

A skip that nobody sees hides a broken test; CI (any machine where the environment variable CI is set) has everything.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(f"missing in CI: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def required(module: str, *, install: str) -> ModuleType:
    """The module, as `pytest.importorskip` gives it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        missing(f"{module}: pip install '{install}'")
