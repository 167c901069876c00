"""Bare runtime and server: two processes on one core, which take the same requests in turns."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from grpc import aio

from samhq_runtime import EncodedImage, Predictor
from samhq_runtime.frames.image_files import decode_image
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.tensors import Tensor, bytes_array, raw_of

from .requests import Request

Answer = tuple[bytes, bytes]  # packed mask, predicted IoU
SERVER_CORE = 0


@dataclass(frozen=True)
class Round:
    """What one side took for the requests of a round: seconds, those of its CPU, and those of each request."""

    seconds: float
    cpu_seconds: float
    latencies: list[float]


@contextmanager
def bare(bundle: Path, images: Sequence[bytes], concurrency: int) -> Iterator[Callable[[Sequence[Request]], Round]]:
    """The bare runtime in a process of its own, which keeps encoded images from round to round."""
    with get_context("spawn").Pool(1, _Bare.start, (bundle, images, concurrency)) as pool:
        yield lambda requests: pool.apply(_Bare.round, (requests,))


class _Bare:
    """State of the child process. Latencies are those of a queue in which `concurrency` requests always wait."""

    predictor: Predictor
    images: Sequence[bytes]
    concurrency: int
    encoded: ClassVar[dict[int, EncodedImage]] = {}

    @classmethod
    def start(cls, bundle: Path, images: Sequence[bytes], concurrency: int) -> None:
        os.sched_setaffinity(0, {SERVER_CORE})
        cls.predictor, cls.images, cls.concurrency = Predictor(bundle, threads=1), images, concurrency
        cls.predictor.set_image(decode_image(images[-1]))

    @classmethod
    def round(cls, requests: Sequence[Request]) -> Round:
        done, cpu = [time.perf_counter()] * cls.concurrency, time.process_time()
        for request in requests:
            cls.answer(request)
            done.append(time.perf_counter())
        latencies = [end - start for start, end in zip(done, done[cls.concurrency :], strict=False)]
        return Round(done[-1] - done[0], time.process_time() - cpu, latencies)

    @classmethod
    def answer(cls, request: Request) -> Answer:
        if request.image not in cls.encoded:
            cls.encoded[request.image] = cls.predictor.encode(decode_image(cls.images[request.image]))
        cls.predictor.set_encoded(cls.encoded[request.image])
        masks, iou_predictions, _ = cls.predictor.predict_batch(**request.arguments)
        return np.packbits(masks, axis=-1).tobytes(), iou_predictions.tobytes()


@contextmanager
def server(bundle: Path, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server bound to one core; yields its process id and gRPC port."""
    command = ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "samhq_runtime", "serve", str(bundle)]
    command += ["--timeout-s", "600", "--threads", "1", "--http-port", "0", "--grpc-port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline().rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(
    pid: int, port: int, images: Sequence[bytes], requests: Sequence[Request], *, concurrency: int
) -> tuple[Round, list[Answer]]:
    """One round, and its answers; `concurrency` clients take the requests in order."""
    latencies, answers = [0.0] * len(requests), [(b"", b"")] * len(requests)
    todo = iter(enumerate(requests))
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=MESSAGES["ModelInferRequest"].SerializeToString,
            response_deserializer=MESSAGES["ModelInferResponse"].FromString,
        )

        async def client() -> None:
            for i, request in todo:
                message = _message(images[request.image], request)
                start = time.perf_counter()
                response = await infer(message)
                latencies[i] = time.perf_counter() - start
                answers[i] = tuple(response.raw_output_contents)

        start, cpu = time.perf_counter(), _cpu_seconds(pid)
        await asyncio.gather(*(client() for _ in range(concurrency)))
        return Round(time.perf_counter() - start, _cpu_seconds(pid) - cpu, latencies), answers


def _message(image: bytes, request: Request) -> Any:
    message = MESSAGES["ModelInferRequest"](model_name="samhq")
    tensors = [Tensor("image_bytes", bytes_array([image])), *(Tensor(n, a) for n, a in request.arguments.items())]
    for tensor in tensors:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape)
        message.raw_input_contents.append(raw_of(tensor))
    for name in ("masks_packed", "iou_predictions"):
        message.outputs.add(name=name)
    return message
