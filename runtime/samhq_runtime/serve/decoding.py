"""Image files decoded in processes that can be ended, under a time limit."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from socket import socketpair

from ..contract import ModelFrame
from ..frames.jpeg import read_jpeg_header
from .decoder import LIMITS, read_answer
from .errors import Reason, RequestError
from .images import FittedImage
from .options import MEGA, ServeOptions

_PNG = b"\x89PNG\r\n\x1a\n"
_START_S = 30.0  # for a process to start, which is not the image's fault
_LARGE_NICE = 5  # large files give way to everything else
_SMALL = 16 * MEGA  # pixels, times scans: what a photo of a telephone takes


class Decoders:
    """Two groups of processes, one for files that are surely small work: large ones never keep those waiting."""

    def __init__(self, frame: ModelFrame, limits: ServeOptions) -> None:
        self._lanes = {small: _Lane(frame, limits, nice=0 if small else _LARGE_NICE) for small in (True, False)}
        self._lanes[True].start()

    async def fit(self, content: bytes, deadline: float) -> FittedImage:
        """The image of a file, resized for the model; `deadline` is a time of `time.monotonic`.

        Raises:
            RequestError: no image, too large, or not decoded in time.
        """
        lane = self._lanes[is_small(content)]
        answer = await asyncio.get_running_loop().run_in_executor(lane.threads, lane.ask, content, deadline)
        return read_answer(answer)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()


def is_small(content: bytes) -> bool:
    """Whether the header of a JPEG or PNG file says that there is little to decode."""
    jpeg = read_jpeg_header(content)
    if jpeg is not None:
        return jpeg.hw is not None and jpeg.hw[0] * jpeg.hw[1] * jpeg.scans <= _SMALL
    if content.startswith(_PNG):
        return int.from_bytes(content[16:20], "big") * int.from_bytes(content[20:24], "big") <= _SMALL
    return False


class _Lane:
    """Threads with a process each, which is started when first needed and again after it was ended."""

    def __init__(self, frame: ModelFrame, limits: ServeOptions, *, nice: int) -> None:
        self._frame, self._limits, self._nice = frame, limits, nice
        self._own = threading.local()
        self._running: set[_Process] = set()
        self.threads = ThreadPoolExecutor(limits.workers, thread_name_prefix="samhq-decoder")

    def start(self) -> None:
        """Have a process ready for the first file."""
        self.threads.submit(self._process)

    def ask(self, content: bytes, deadline: float) -> bytes:
        timeout = min(self._limits.decode_timeout_s, deadline - time.monotonic())
        if timeout <= 0:
            raise RequestError("not started before its timeout", reason=Reason.TIMEOUT)
        process = self._process()
        try:
            return process.ask(content, timeout)
        except TimeoutError as e:
            self._end(process)
            raise RequestError(
                f"image: not decoded within {timeout:.1f} s; send a smaller one, or pixels", reason=Reason.TOO_LARGE
            ) from e
        except (OSError, EOFError) as e:  # the libraries that decode are written in C
            self._end(process)
            raise RequestError("image: ended the process that decoded it") from e

    def close(self) -> None:
        for process in list(self._running):
            process.child.kill()  # whoever waits for its answer sees the end of it
        self.threads.shutdown(cancel_futures=True)
        for process in list(self._running):
            self._end(process)

    def _process(self) -> _Process:
        process: _Process | None = getattr(self._own, "process", None)
        if process is None or process not in self._running:
            process = self._own.process = _Process.start(self._frame, self._limits, self._nice)
            self._running.add(process)
        return process

    def _end(self, process: _Process) -> None:
        self._running.discard(process)
        process.end()


@dataclass(eq=False)
class _Process:
    """One decoder and our end of its socket."""

    child: subprocess.Popen[bytes]
    connection: Connection = field(repr=False)
    ready: bool = False

    @classmethod
    def start(cls, frame: ModelFrame, limits: ServeOptions, nice: int) -> _Process:
        ours, theirs = socketpair()
        given = json.dumps({"nice": nice, **{name: getattr(limits, name) for name in LIMITS}})
        arguments = [str(theirs.fileno()), json.dumps(asdict(frame)), given]
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "samhq_runtime.serve.decoder", *arguments],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        return cls(child, Connection(ours.detach()))

    def ask(self, content: bytes, timeout: float) -> bytes:
        """Raises TimeoutError; EOFError or OSError if it ended."""
        if not self.ready:
            self._receive(_START_S)
            self.ready = True
        self.connection.send_bytes(content)
        return self._receive(timeout)

    def _receive(self, timeout: float) -> bytes:
        if not self.connection.poll(timeout):
            raise TimeoutError
        return self.connection.recv_bytes()

    def end(self) -> None:
        self.child.kill()
        self.connection.close()
        self.child.wait()
