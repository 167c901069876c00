"""A child process: `python -m samhq_runtime.doctor.probe NAME` tries one provider and prints one line of JSON."""

from __future__ import annotations

import base64
import importlib
import importlib.util
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..contract import Array, GraphSpec, TensorSpec
from ..errors import BackendUnavailable, SamHqError
from .children import PROBES

# An ONNX model of one node, y = x + 1: small enough to be here, so that nothing has to be installed to write it.
_MODEL = base64.b64decode(
    "CAkSADpUChAKAXgKA29uZRIBeSIDQWRkEgVwcm9iZSoPCAEQASIEAACAP0IDb25lWhMKAXgSDgoMCAESCAoCCAEKAggEYhMKAXkSDgoMCAESCAoC"
    "CAEKAggEQgQKABAR"
)
_SPEC = GraphSpec("probe", (TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))
_X = np.arange(4, dtype=np.float32).reshape(1, 4)


def main(name: str) -> dict[str, Any]:
    """What the child found out."""
    if name == "driver":
        return driver()
    if importlib.util.find_spec(PROBES[name]) is None:
        return {"status": "absent", "detail": f"{PROBES[name]} is not installed"}
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.onnx"
            path.write_bytes(_MODEL)
            y, version = _run(name, path)
    except SamHqError as e:
        # A provider that this package never had is absent; one that is there and fails is broken.
        absent = isinstance(e, BackendUnavailable) and "is not in this onnxruntime" in str(e)
        return {"status": "absent" if absent else "broken", "detail": str(e)}
    except Exception as e:  # of the backend's own; the child exists to catch it
        return {"status": "broken", "detail": f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"}
    if not np.array_equal(y, _X + 1):
        return {"status": "broken", "detail": f"{version}: computes wrong numbers"}
    return {"status": "works", "detail": version}


def driver() -> dict[str, Any]:
    """The NVIDIA driver and its GPUs; None and [] where there is none."""
    from ..nvidia.gpu import current_gpu, driver_cuda_version, driver_version

    gpus: list[dict[str, str]] = []
    while gpu := current_gpu(len(gpus)):
        gpus.append(asdict(gpu))
    return {"driver": driver_version(), "cuda": driver_cuda_version(), "gpus": gpus}


def _run(name: str, path: Path) -> tuple[Array, str]:
    """The result, and the version that computed it."""
    if name.startswith("engine:"):
        return _run_engine(name.partition(":")[2], path)
    if name == "openvino":
        return _run_openvino(path)
    from ..session.ort import OrtSession

    with OrtSession(path, _SPEC, providers=(name,)) as session:
        return np.asarray(session.keep({"x": _X})["y"]), f"onnxruntime {_version('onnxruntime')}"


def _run_openvino(path: Path) -> tuple[Array, str]:
    openvino = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU")
    return np.asarray(compiled({"x": _X})[0]), f"openvino {openvino.__version__}"


def _run_engine(flavour: str, path: Path) -> tuple[Array, str]:
    """Build an engine, load it, run it."""
    import threading

    from ..engine.builder import build_plan, parse_graph
    from ..nvidia.flavour import FLAVOURS, load_tensorrt
    from ..nvidia.options import EngineOptions

    tensorrt = load_tensorrt(FLAVOURS[flavour])
    plan = path.with_suffix(".engine")
    graph = parse_graph(tensorrt, path, _SPEC)
    with plan.open("wb") as file:
        build_plan(
            graph,
            (),
            EngineOptions(),
            timings=None,
            show=lambda fraction, phase: None,
            stop=threading.Event(),
            write=file.write,
        )
    if tensorrt.gpu is None:
        raise BackendUnavailable(f"{tensorrt} builds engines here, and there is no NVIDIA GPU to run them on")
    from ..session.trt import Engine, RunOptions

    engine = Engine(tensorrt, plan, _SPEC, RunOptions(), host_code=False)
    with engine.lane({}) as lane:
        return lane.run({"x": _X}, profile=0, keep=False)["y"], str(tensorrt)


def _version(module: str) -> str:
    return str(importlib.import_module(module).__version__)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
