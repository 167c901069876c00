"""The C++ library as its users meet it: examples, installation, versions, exported symbols."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samhq_runtime
from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle
from tests.support.cpp_programs import LIBRARY, build, run
from tests.support.reference import photographs
from tests.support.required import missing


def assert_examples_work(folder: Path, bundle: Bundle, work: Path, **env: str) -> None:
    """`segment` with a box, `segment_c` with a point: the masks of `Predictor`."""
    image = photographs()["portrait 300 x 200"]
    Image.fromarray(image).save(work / "image.png")
    Image.fromarray(image).save(work / "image.ppm")
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        of_box = predictor.predict(box=[20, 30, 170, 260], multimask_output=False)[0]
        of_point = predictor.predict([[90, 150]], [1], multimask_output=True)[0]
    said = run([folder / "segment_c", bundle.path, work / "image.ppm", "90", "150", work / "mask.pgm"], env=env)
    np.testing.assert_array_equal(np.asarray(Image.open(work / "mask.pgm")) > 0, of_point[0])
    if (folder / "segment").exists():  # needs libpng
        box = ("20", "30", "170", "260")
        said += run([folder / "segment", bundle.path, work / "image.png", *box, work / "mask.png"], env=env)
        np.testing.assert_array_equal(np.asarray(Image.open(work / "mask.png")) > 0, of_box[0])
        assert "predicted IoU" in said
    run([folder / "segment_c", work, work / "image.ppm", "90", "150", work / "mask.pgm"], code=1, env=env)
    run([folder / "segment_c", bundle.path, work / "image.ppm", "90", "150", work / "no" / "mask.pgm"], code=1, env=env)


def test_examples_under_sanitizers(programs: Path, demo_bundle: Bundle, tmp_path: Path) -> None:
    assert_examples_work(programs / "samhq" / "examples", demo_bundle, tmp_path)


_C_PROJECT = """cmake_minimum_required(VERSION 3.18)
project(only_c LANGUAGES C)
find_package(samhq REQUIRED)
add_executable(segment_c {source})
target_link_libraries(segment_c PRIVATE samhq::samhq)
"""


def test_a_static_library_in_other_projects(programs: Path, demo_bundle: Bundle, tmp_path: Path) -> None:
    """The sanitised one, installed: in a project of C alone, and by hand with what pkg-config says."""
    prefix, source = tmp_path / "prefix", LIBRARY / "examples" / "segment.c"
    run(["cmake", "--install", programs, "--prefix", prefix])
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "CMakeLists.txt").write_text(_C_PROJECT.format(source=source))
    built = build(tmp_path / "project", tmp_path / "build", CMAKE_PREFIX_PATH=str(prefix))
    assert_examples_work(built, demo_bundle, tmp_path)
    if shutil.which("pkg-config") is None:
        missing("pkg-config is missing")
    (described,) = prefix.rglob("samhq.pc")
    flags = run(["pkg-config", "--define-prefix", "--cflags", "--libs", described]).split()
    sanitizers = ["-fsanitize=address,undefined"]
    run(["cc", "-std=c99", *sanitizers, source, *flags, "-o", tmp_path / "segment_c"])
    run([tmp_path / "segment_c"], code=2)


def test_examples_against_the_installation(installed: Path, demo_bundle: Bundle, tmp_path: Path) -> None:
    """find_package(samhq) in a project of its own."""
    examples = build(LIBRARY / "examples", tmp_path / "build", CMAKE_PREFIX_PATH=str(installed))
    assert_examples_work(examples, demo_bundle, tmp_path)


def test_pkg_config(installed: Path, tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None:
        missing("pkg-config is missing")
    env = {"PKG_CONFIG_PATH": str(installed / "lib" / "pkgconfig")}
    flags = run(["pkg-config", "--cflags", "--libs", "samhq"], env=env).split()
    assert run(["pkg-config", "--modversion", "samhq"], env=env).strip() == samhq_runtime.__version__
    assert f"-L{installed / 'lib'}" in flags
    source = LIBRARY / "examples" / "segment.c"
    run(["cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", source, *flags, "-o", tmp_path / "segment_c"])
    run([tmp_path / "segment_c"], code=2, env={"LD_LIBRARY_PATH": str(installed / "lib")})


_APT_GET = """case "$*" in *download*) touch libonnxruntime-dev_1.deb ;; esac"""
_DPKG = """sleep 0.2
mkdir -p "$3/usr/include/onnxruntime" "$3/usr/share/doc/libonnxruntime-dev"
touch "$3/usr/include/onnxruntime/onnxruntime_c_api.h" "$3/usr/share/doc/libonnxruntime-dev/copyright" """


def test_headers_are_whole_whoever_fetches_them(tmp_path: Path) -> None:
    """Two at once, with stand-ins for the package tools: one folder, and nothing beside it."""
    if not Path("/etc/apt/sources.list.d/debian.sources").is_file():
        pytest.skip("get_headers.sh is for Debian")
    (tmp_path / "bin").mkdir()
    for name, script in {"apt-get": _APT_GET, "dpkg": _DPKG}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    folder = tmp_path / "build" / "headers"
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    children = [subprocess.Popen([LIBRARY / "tools" / "get_headers.sh", folder], env=env) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    assert (folder / "include" / "onnxruntime_c_api.h").is_file()
    assert [path.name for path in folder.parent.iterdir()] == ["headers"]


def test_only_the_interface_is_exported(installed: Path) -> None:
    if shutil.which("nm") is None:
        missing("nm is missing")
    symbols = run(["nm", "-D", "--defined-only", "--format=posix", installed / "lib" / "libsamhq.so"]).splitlines()
    declared = re.findall(r"^SAMHQ_API .*?(samhq_\w+)\(", header(), re.MULTILINE)
    assert sorted(line.split()[0] for line in symbols) == sorted(declared)


def test_versions_agree() -> None:
    assert f'#define SAMHQ_VERSION "{samhq_runtime.__version__}"' in header()


def test_onnxruntime_is_not_linked(installed: Path) -> None:
    """It is found at run time, so that one build serves every version of it."""
    if shutil.which("ldd") is None:
        missing("ldd is missing")
    assert "onnxruntime" not in run(["ldd", installed / "lib" / "libsamhq.so"])


def header() -> str:
    return (LIBRARY / "include" / "samhq" / "samhq.h").read_text()
