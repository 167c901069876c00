"""Load test of `samhq serve` from another process, against the bare runtime doing the same work.

    python -m benchmarks serve_load BUNDLE --output benchmarks/results/serve_load.json

Server and bare runtime are two processes on one CPU core, with one thread each; the clients run on the other cores. The
requests are cut into rounds, and both do each round, one after the other: overheads are ratios within a round, of which
the median is reported, so that a machine that slows down for a while does not decide the figure. The overhead in CPU
time leaves out what other processes took from the core.

Every answer is compared with the bare runtime's: the mask may differ where the logit is within rounding of zero, the
predicted IoU by rounding, nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from grpc import aio

from samhq_runtime import EncodedImage, Predictor
from samhq_runtime.bench.machine import describe_machine
from samhq_runtime.contract import Array
from samhq_runtime.frames.image_files import decode_image, encode_png
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.tensors import Tensor, bytes_array, raw_of
from samhq_runtime.tables import format_table

Answer = tuple[bytes, bytes]  # packed mask, predicted IoU
_SERVER_CORE = 0
_LIBRARIES = ("samhq-export", "numpy", "Pillow", "onnxruntime", "grpcio", "protobuf")
_IOU_TOLERANCE = 1e-4
_LOGIT_TOLERANCE = 1e-3  # of logits of the order of 10: where a mask may flip


@dataclass(frozen=True)
class Request:
    """One of an image's prompts."""

    image: int
    prompt: int
    prompts: Sequence[Sequence[dict[str, Array]]]

    @property
    def arguments(self) -> dict[str, Any]:
        """For `Predictor.predict`, and for the server by the same names."""
        return {**self.prompts[self.image][self.prompt]}


@dataclass(frozen=True)
class Round:
    """What one side took for the requests of a round: seconds, those of its CPU, and those of each request."""

    seconds: float
    cpu_seconds: float
    latencies: list[float]


def main(argv: Sequence[str] | None = None) -> None:
    options = _parse(argv)
    images = make_images(options.images)
    requests = make_requests(options.requests, len(images))
    machine = describe_machine(libraries=_LIBRARIES)  # before this process is bound to some of its cores
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {_SERVER_CORE} or {_SERVER_CORE})
    rounds, answers = run_rounds(options, images, requests)
    wrong = check(options.bundle, images, requests, answers)
    results = {
        "requests": len(requests),
        "images": len(images),
        "rounds": len(rounds),
        "concurrency": options.concurrency,
        "wrong_answers": wrong,
        "overhead": _median(1 - bare.seconds / served.seconds for bare, served in rounds),
        "overhead_cpu": _median(1 - bare.cpu_seconds / served.cpu_seconds for bare, served in rounds),
        "bare": _figures([bare for bare, _ in rounds], len(requests)),
        "server": _figures([served for _, served in rounds], len(requests)),
    }
    print(format_table(("figure", "value"), [(key, str(value)) for key, value in results.items()]))
    if options.output:
        options.output.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    raise SystemExit(1 if wrong else 0)


def run_rounds(
    options: argparse.Namespace, images: Sequence[bytes], requests: Sequence[Request]
) -> tuple[list[tuple[Round, Round]], list[Answer]]:
    """(bare, server) of each round, and the server's answers in the order of the requests."""
    rounds, answers = [], []
    bounds = np.linspace(0, len(requests), options.rounds + 1).astype(int)
    with (
        bare(options.bundle, images, options.concurrency) as bare_round,
        server(options.bundle, options.serve) as pid_port,
    ):
        for start, end in pairwise(bounds):
            of_bare = bare_round(requests[start:end])
            load_round = load(*pid_port, images, requests[start:end], concurrency=options.concurrency)
            of_server, got = asyncio.run(load_round)
            rounds.append((of_bare, of_server))
            answers += got
    return rounds, answers


def _median(ratios: Iterable[float]) -> float:
    return round(float(np.median(list(ratios))), 4)


def _figures(rounds: Sequence[Round], requests: int) -> dict[str, Any]:
    latencies = [latency for one in rounds for latency in one.latencies]
    return {
        "per_second": round(requests / sum(one.seconds for one in rounds), 2),
        "cpu_ms_per_request": round(sum(one.cpu_seconds for one in rounds) / requests * 1e3, 2),
        "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)) * 1e3, 1) for q in (50, 90, 99, 100)},
    }


def make_images(count: int) -> list[bytes]:
    """PNG files of different shapes: smooth blobs on a gradient, so that masks are not noise."""
    return [encode_png(_picture(np.random.default_rng(seed))) for seed in range(count)]


def _picture(rng: np.random.Generator) -> Array:
    height, width = (int(n) for n in rng.integers(120, 480, 2))
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 200 / width, y * 200 / height, (x + y) * 200 / (width + height)], -1)
    for _ in range(6):
        centre, radius = rng.random(2) * (height, width), rng.uniform(0.05, 0.3) * min(height, width)
        image[np.hypot(y - centre[0], x - centre[1]) < radius] = rng.integers(0, 256, 3)
    return image.astype(np.uint8)


def make_requests(count: int, images: int) -> list[Request]:
    """Four prompts an image, boxes and points; images come and go, each asked about in a burst, as people do."""
    rng = np.random.default_rng(1)
    prompts = [[_box(rng), _point(rng), _box(rng), _point(rng)] for _ in range(images)]
    requests = []
    for i in range(count):
        image = (i * images // count + int(rng.integers(0, 8))) % images
        requests.append(Request(image, int(rng.integers(0, 4)), prompts))
    return requests


def _box(rng: np.random.Generator) -> dict[str, Array]:
    start = rng.random(2) * 60
    return {"box": np.concatenate([start, start + rng.random(2) * 60 + 5])[None].astype(np.float32)}


def _point(rng: np.random.Generator) -> dict[str, Array]:
    coords = (rng.random(2) * 100)[None, None].astype(np.float32)
    return {"point_coords": coords, "point_labels": np.ones((1, 1), np.float32)}


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
        os.sched_setaffinity(0, {_SERVER_CORE})
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
        masks, iou_predictions, _ = cls.predictor.predict(**request.arguments)
        return np.packbits(masks, axis=-1).tobytes(), iou_predictions.tobytes()


@contextmanager
def server(bundle: Path, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server bound to one core; yields its process id and gRPC port."""
    command = ["taskset", "-c", str(_SERVER_CORE), sys.executable, "-m", "samhq_runtime", "serve", str(bundle)]
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


def check(bundle: Path, images: Sequence[bytes], requests: Sequence[Request], answers: Sequence[Answer]) -> int:
    """How many answers are not the bare runtime's."""
    wrong = 0
    order = sorted(range(len(requests)), key=lambda i: (requests[i].image, requests[i].prompt))
    with Predictor(bundle, threads=1) as predictor:
        image = -1
        asked: tuple[int, int] | None = None
        for i in order:
            request = requests[i]
            if request.image != image:
                image = request.image
                predictor.set_image(decode_image(images[image]))
            if (image, request.prompt) != asked:
                asked = (image, request.prompt)
                logits, iou_predictions, _ = predictor.predict(**request.arguments, return_logits=True)
            wrong += not _same(answers[i], logits[0, 0], iou_predictions)
    return wrong


def _same(got: Answer, logits: Array, iou_predictions: Array) -> bool:
    height, width = logits.shape
    packed = np.frombuffer(got[0], np.uint8)
    if packed.size != height * ((width + 7) // 8) or len(got[1]) != iou_predictions.nbytes:
        return False
    mask = np.unpackbits(packed.reshape(height, -1), axis=-1, count=width).astype(bool)
    sure = np.abs(logits) > _LOGIT_TOLERANCE
    return bool(
        np.array_equal(mask[sure], logits[sure] > 0)
        and np.allclose(np.frombuffer(got[1], np.float32), iou_predictions.ravel(), atol=_IOU_TOLERANCE)
    )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--serve", nargs="*", default=(), metavar="OPTION", help="such as --serve=--max-batch=8")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser.parse_args(argv)
