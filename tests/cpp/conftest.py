"""The C++ programs, built once a session with warnings as errors, and bundles to run them on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from samhq_runtime.bundle import Bundle
from tests.support.bundles import export
from tests.support.cpp_programs import LIBRARY, TESTS, build, headers, need_tools, run
from tests.support.models import TINY
from tests.support.official import import_official
from tests.support.parity import randomise
from tests.support.reference import official_sam


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test programs and examples, statically linked, under AddressSanitizer, LeakSanitizer and UBSan."""
    need_tools()
    folder = tmp_path_factory.mktemp("cpp") / "build"
    flags = {
        "SAMHQ_WERROR": "ON",
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_CXX_FLAGS_DEBUG": "-O1",
        "CMAKE_UNITY_BUILD": "ON",
    }
    return build(TESTS, folder, **flags, SAMHQ_SANITIZE="ON", ONNXRUNTIME_ROOT=str(headers()))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation as a user makes it: optimised, a shared library."""
    need_tools()
    folder = tmp_path_factory.mktemp("cpp-install")
    prefix = folder / "prefix"
    options = {"CMAKE_INSTALL_PREFIX": str(prefix), "CMAKE_INSTALL_LIBDIR": str(prefix / "lib")}
    options |= {"SAMHQ_WERROR": "ON", "CMAKE_UNITY_BUILD": "ON"}
    build(LIBRARY, folder / "build", **options, ONNXRUNTIME_ROOT=str(headers()))
    run(["cmake", "--install", folder / "build"])
    return prefix


@pytest.fixture(scope="session")
def plain_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A plain SAM: no HQ features, no HQ token, three masks for multimask_output."""
    folder = tmp_path_factory.mktemp("plain")
    sam = official_sam(import_official("segment_anything"), TINY)
    randomise(sam, seed=5)
    torch.save(sam.state_dict(), folder / "sam.pth")
    return export(folder / "sam.pth", folder / "bundle")
