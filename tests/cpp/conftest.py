"""The C++ programs, built once with warnings as errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cpp_programs import LIBRARY, TESTS, build, headers, need_tools, run
from tests.support.shared import shared

_STRICT = {"SAMHQ_WERROR": "ON", "CMAKE_UNITY_BUILD": "ON"}


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test programs and examples, statically linked, under AddressSanitizer, LeakSanitizer and UBSan."""
    need_tools()
    options = {**_STRICT, "CMAKE_BUILD_TYPE": "Debug", "CMAKE_CXX_FLAGS_DEBUG": "-O1", "SAMHQ_SANITIZE": "ON"}

    def make(folder: Path) -> None:
        build(TESTS, folder / "build", **options, ONNXRUNTIME_ROOT=str(headers()))

    return shared(tmp_path_factory, "cpp-programs", make) / "build"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation as a user makes it: optimised, a shared library."""
    need_tools()

    def make(folder: Path) -> None:
        prefix = folder / "prefix"
        options = {**_STRICT, "CMAKE_INSTALL_PREFIX": str(prefix), "CMAKE_INSTALL_LIBDIR": str(prefix / "lib")}
        build(LIBRARY, folder / "build", **options, ONNXRUNTIME_ROOT=str(headers()))
        run(["cmake", "--install", folder / "build"])

    return shared(tmp_path_factory, "cpp-installed", make) / "prefix"
