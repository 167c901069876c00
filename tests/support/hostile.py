"""What is made to break things, and a server in a process of its own, under a limit of address space."""

from __future__ import annotations

import base64
import io
import os
import re
import resource
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from samhq_runtime import Predictor
from tests.support.serving import BOX, IMAGE, grpc_call, grpc_request, send

GIGA = 1 << 30
GREETING = re.compile(r".*: http://127\.0\.0\.1:(\d+)/v2, gRPC 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Server:
    """`samhq serve` in a process."""

    process: subprocess.Popen[str]
    http_port: int
    grpc_port: int

    def peak_mb(self) -> float:
        """Of it and the processes that it started, together: the most that each took since `forget_peak`."""
        return sum(_status_mb(pid, "VmHWM") for pid in self._processes())

    def resident_mb(self) -> float:
        """Of it and the processes that it started, together, now."""
        return sum(_status_mb(pid, "VmRSS") for pid in self._processes())

    def forget_peak(self) -> None:
        for pid in self._processes():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _processes(self) -> list[int]:
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        children = " ".join((thread / "children").read_text() for thread in threads).split()
        return [self.process.pid, *map(int, children)]


@contextmanager
def server_process(bundle: Path, *options: str, address_space: int = 6 * GIGA) -> Iterator[Server]:
    """A server on free ports that may not map more than `address_space` bytes; killed at the end."""
    command = [sys.executable, "-m", "samhq_runtime", "serve", str(bundle), "--http-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(
        [*command, "--threads", "1", *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space)),
    )
    try:
        assert process.stdout is not None
        greeting = GREETING.match(process.stdout.readline())
        assert greeting
        yield Server(process, int(greeting[1]), int(greeting[2]))
    finally:
        process.kill()
        process.communicate()


@dataclass
class Neighbour:
    """A well-behaved client: asks one thing after the other while it is entered, and keeps what was wrong or late."""

    server: Server
    bundle: Path
    complaints: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    answers: int = 0

    def __enter__(self) -> Neighbour:
        with Predictor(self.bundle, threads=1) as predictor:
            predictor.set_image(IMAGE)
            self._expected = predictor.predict_batch(box=BOX)[0]
        self._request = grpc_request({"image": IMAGE, "box": BOX}, ["masks"])
        self._ask()  # the server's first answer is its slowest
        self.slowest_s, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            start = time.monotonic()
            try:
                self._ask()
            except Exception as e:
                self.complaints.append(f"{type(e).__name__}: {e}"[:300])
            self.slowest_s = max(self.slowest_s, time.monotonic() - start)

    def _ask(self) -> None:
        if send(self.server.http_port, "GET", "/v2/health/live")[0] != 200:
            self.complaints.append("not live")
        raw = grpc_call(self.server.grpc_port, "ModelInfer", self._request).raw_output_contents[0]
        if not np.array_equal(np.frombuffer(raw, bool).reshape(self._expected.shape), self._expected):
            self.complaints.append("a wrong mask")
        self.answers += 1


def _status_mb(pid: int, name: str) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # ended meanwhile
        return 0.0
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def thin_png(height: int, width: int) -> bytes:
    """A grey PNG of any size, which Pillow would not make, in a few kilobytes."""
    packer, row = zlib.compressobj(9), bytes(1 + min(width, 1 << 20))
    data = b""
    for _ in range(height):
        left = 1 + width
        while left:
            data += packer.compress(row[: min(left, len(row))])
            left -= min(left, len(row))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data + packer.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def jpeg_of_scans(scans: int, side: int) -> bytes:
    """A progressive JPEG that repeats a scan over and over; each walks over the whole image."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 90).save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    start = whole.rfind(b"\xff\xda")
    return whole[:start] + whole[start:-2] * scans + whole[-2:]


def as_base64_request(image: bytes, outputs: Sequence[str] = ("masks_rle",)) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "image_bytes", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(image).decode()]},
            {"name": "box", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 30, 30]},
        ],
        "outputs": [{"name": name} for name in outputs],
    }
