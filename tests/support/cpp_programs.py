"""Building and running the C++ library's programs, and the files that tests/cpp/cases.cpp reads and writes."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .required import missing

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "runtime" / "cpp"
TESTS = ROOT / "tests" / "cpp"
HEADERS = ROOT / "build" / "onnxruntime-headers"  # kept between sessions
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}


def need_tools() -> None:
    """Skip where C++ cannot be built; the reasons are those of the machine, never of the code."""
    absent = [tool for tool in ("cmake", "c++", "cc") if shutil.which(tool) is None]
    if absent:
        missing(f"the C++ library needs {', '.join(absent)}")


def onnxruntime_library() -> Path:
    """The shared library inside the onnxruntime wheel."""
    found = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so*"))
    if not found:
        missing("this onnxruntime package has no shared library")
    return found[0]


def headers() -> Path:
    """ONNXRUNTIME_ROOT, or the headers of a Debian package, fetched once."""
    if root := os.environ.get("ONNXRUNTIME_ROOT"):
        return Path(root)
    if not HEADERS.is_dir():
        fetched = subprocess.run([LIBRARY / "tools" / "get_headers.sh", HEADERS], capture_output=True, text=True)
        if fetched.returncode:
            reason = (fetched.stderr.strip().splitlines() or ["get_headers.sh failed"])[-1]
            missing(f"no headers of ONNX Runtime: {reason}; set ONNXRUNTIME_ROOT")
    return HEADERS


def build(source: Path, folder: Path, **definitions: str) -> Path:
    """Configure and build a CMake project; its output is the failure's message."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    options = [f"-D{name}={value}" for name, value in definitions.items()]
    run(["cmake", "-S", source, "-B", folder, *generator, *options])
    run(["cmake", "--build", folder, "--parallel", "2"])
    return folder


def run(command: Sequence[str | Path], *, code: int = 0, env: Mapping[str, str] | None = None) -> str:
    """stdout of a program that must end with `code`; the sanitizers end it with another one."""
    library = {"SAMHQ_ONNXRUNTIME": str(onnxruntime_library())}
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, **SANITIZERS, **library, **(env or {})},
    )
    assert done.returncode == code, (
        f"{command} ended with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-8000:]}"
    )
    return done.stdout


@dataclass(frozen=True)
class Case:
    """One prediction: the index of its image, and the arguments of `Predictor.predict`."""

    image: int
    prompts: Mapping[str, Any]
    options: Mapping[str, bool] = field(default_factory=dict)
    hq_token: NDArray[np.float32] | None = None


def write_cases(path: Path, images: Sequence[NDArray[np.uint8]], cases: Sequence[Case]) -> None:
    """What cases.cpp reads; every other image with padding between its rows."""
    with path.open("wb") as file:
        file.write(struct.pack("<q", len(images)))
        for number, image in enumerate(images):
            height, width = image.shape[:2]
            padding = 7 if number % 2 else 0
            rows = np.pad(image.reshape(height, width * 3), ((0, 0), (0, padding)), constant_values=255)
            file.write(struct.pack("<qqq", height, width, rows.shape[1]))
            _write_array(file, rows)
        file.write(struct.pack("<q", len(cases)))
        for case in cases:
            coords = np.asarray(case.prompts.get("point_coords", ()), np.float64)
            mask = np.asarray(case.prompts.get("mask_input", ()), np.float32)
            flags = [case.options.get(name, False) for name in ("multimask_output", "hq_token_only", "return_logits")]
            point_sets = len(coords) if coords.ndim == 3 else 1
            file.write(struct.pack("<qqq", case.image, point_sets, mask.shape[-1]) + struct.pack("<qqq", *flags))
            _write_array(file, coords)
            _write_array(file, np.asarray(case.prompts.get("point_labels", ()), np.int32))
            _write_array(file, np.asarray(case.prompts.get("box", ()), np.float64))
            _write_array(file, mask)
            _write_array(file, np.asarray(() if case.hq_token is None else case.hq_token, np.float32))


def read_results(path: Path, cases: Iterable[Case]) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """masks (B,M,H,W), iou_predictions (B,M), low_res_logits (B,M,L,L) of each case, as cases.cpp wrote them."""
    content, at, results = path.read_bytes(), 0, []
    for case in cases:
        objects, masks_each, height, width, side = struct.unpack_from("<5q", content, at)
        pixel = "<f4" if case.options.get("return_logits") else "?"
        item = np.dtype([("iou", "<f4"), ("low_res", "<f4", (side, side)), ("mask", pixel, (height, width))])
        items = np.frombuffer(content, item, objects * masks_each, at + 40).reshape(objects, masks_each)
        at += 40 + items.nbytes
        results.append((items["mask"], items["iou"], items["low_res"]))
    assert at == len(content)
    return results


def _write_array(file: Any, values: NDArray[Any]) -> None:
    file.write(struct.pack("<q", values.size) + np.ascontiguousarray(values).tobytes())
