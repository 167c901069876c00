"""A real `tritonserver` for tests: the one inside nvidia-pytriton, with a stand-in for its onnxruntime backend.

nvidia-pytriton carries the server and the Python backend, not NVIDIA's onnxruntime and tensorrt backends. Triton lets a
Python file act as a backend, so `ONNXRUNTIME` runs `model.onnx` in their place: configuration, scheduling, warm-up,
calls between models and protocol are Triton's own, the backend is not.

It needs an environment of its own (numpy below 2), named by SAMHQ_PYTRITON, the path of its `python`:

    python -m venv pytriton && pytriton/bin/pip install nvidia-pytriton==0.7.0 'numpy<2' onnxruntime Pillow
    SAMHQ_PYTRITON=$PWD/pytriton/bin/python python -m pytest tests/runtime/test_triton.py
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import samhq_runtime

ONNXRUNTIME = """
import json
import os
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        folder = os.path.join(args["model_repository"], args["model_version"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(os.path.join(folder, "model.onnx"), options)
        self.outputs = [output["name"] for output in json.loads(args["model_config"])["output"]]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        feeds = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        results = self.session.run(self.outputs, feeds)
        tensors = [pb_utils.Tensor(name, data) for name, data in zip(self.outputs, results)]
        return pb_utils.InferenceResponse(tensors)
"""


@contextmanager
def tritonserver(python: Path, repository: Path, scratch: Path) -> Iterator[tuple[int, int]]:
    """Yields its HTTP and gRPC ports once all models are ready; the log is in `scratch`."""
    site = subprocess.check_output([python, "-c", "import pytriton; print(pytriton.__path__[0])"], text=True).strip()
    libdir = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"], text=True
    ).strip()
    libraries = Path(site).parent / "nvidia_pytriton.libs"
    backends = _backends(python, Path(site) / "tritonserver", scratch)
    http, grpc = _free_port(), _free_port()
    command = [Path(site) / "tritonserver" / "bin" / "tritonserver"]
    command += [f"--model-repository={repository}", f"--backend-directory={backends}", "--strict-readiness=true"]
    command += [f"--http-port={http}", f"--grpc-port={grpc}", "--allow-metrics=false", "--http-address=127.0.0.1"]
    command += ["--grpc-address=127.0.0.1", "--disable-auto-complete-config", "--cache-config=local,size=67108864"]
    command += [f"--cache-directory={Path(site) / 'tritonserver' / 'caches'}"]
    for model in repository.glob("*/1/model.py"):  # Triton looks for modules beside it
        model.with_name("samhq_runtime").symlink_to(Path(samhq_runtime.__file__).parent)
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "LD_LIBRARY_PATH": f"{libdir}:{libraries}"}
    log = scratch / "tritonserver.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait(process, http, log)
        yield http, grpc
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _backends(python: Path, server: Path, scratch: Path) -> Path:
    """A backend directory: their Python backend with the stub of this Python beside it, and the stand-in."""
    version = subprocess.check_output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True)
    folder = scratch / "backends"
    (folder / "python").mkdir(parents=True)
    for file in (server / "backends" / "python").glob("*.*"):
        shutil.copyfile(file, folder / "python" / file.name)  # Triton refuses links that lead out of the folder
    stub = server / "python_backend_stubs" / version.strip() / "triton_python_backend_stub"
    shutil.copy(stub, folder / "python" / stub.name)
    (folder / "onnxruntime").mkdir()
    (folder / "onnxruntime" / "model.py").write_text(ONNXRUNTIME)
    return folder


def _wait(process: subprocess.Popen[bytes], http: int, log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/health/ready", timeout=1):
            return
        time.sleep(0.2)
    sys.stderr.write(log.read_text()[-8000:])
    raise AssertionError(f"tritonserver is not ready (exit code {process.poll()})")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
