"""Load test of `samhq serve` from another process, against the bare runtime doing the same work.

    python benchmarks/serve_load.py BUNDLE --output benchmarks/results/serve_load.json

The server, and before and after it the bare runtime, run on one CPU core with one thread; the clients on the others.
Every answer is compared with the bare runtime's: the mask may differ where the logit is within rounding of zero, the
predicted IoU by rounding, nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from grpc import aio

from samhq_runtime import EncodedImage, Predictor
from samhq_runtime.contract import Array
from samhq_runtime.image_io import decode_image, encode_png
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.tensors import Tensor, bytes_array, raw_of
from samhq_runtime.tables import format_table

Answer = tuple[bytes, bytes]  # packed mask, predicted IoU
_SERVER_CORE = 0
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


def main() -> None:
    options = _parse()
    images = make_images(options.images)
    requests = make_requests(options.requests, len(images))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {_SERVER_CORE} or {_SERVER_CORE})
    sample = requests[: options.bare]
    before = bare(options.bundle, images, sample)
    with server(options.bundle) as port:
        seconds, latencies, answers = asyncio.run(load(port, images, requests, concurrency=options.concurrency))
    after = bare(options.bundle, images, sample)
    wrong = check(options.bundle, images, requests, answers)
    rate, bare_rate = len(requests) / seconds, (before + after) / 2
    results = {
        "requests": len(requests),
        "images": len(images),
        "concurrency": options.concurrency,
        "wrong_answers": wrong,
        "bare_per_second": [round(before, 2), round(after, 2)],
        "server_per_second": round(rate, 2),
        "overhead": round(1 - rate / bare_rate, 4) if bare_rate else None,
        "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)) * 1e3, 1) for q in (50, 90, 99, 100)},
    }
    print(format_table(("figure", "value"), [(key, str(value)) for key, value in results.items()]))
    if options.output:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
        options.output.write_text(json.dumps({"machine": machine, **results}, indent=2) + "\n")
    raise SystemExit(1 if wrong else 0)


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


def bare(bundle: Path, images: Sequence[bytes], requests: Sequence[Request]) -> float:
    """Requests a second of the bare runtime, in a process of its own; encoded images are kept. 0 for no requests."""
    if not requests:
        return 0.0
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_bare, (bundle, images, requests))


def _bare(bundle: Path, images: Sequence[bytes], requests: Sequence[Request]) -> float:
    os.sched_setaffinity(0, {_SERVER_CORE})
    with Predictor(bundle, threads=1) as predictor:
        predictor.set_image(decode_image(images[-1]))
        encoded: dict[int, EncodedImage] = {}
        start = time.perf_counter()
        for request in requests:
            if request.image not in encoded:
                encoded[request.image] = predictor.encode(decode_image(images[request.image]))
            predictor.set_encoded(encoded[request.image])
            masks, iou_predictions, _ = predictor.predict(**request.arguments)
            np.packbits(masks, axis=-1).tobytes(), iou_predictions.tobytes()
        return len(requests) / (time.perf_counter() - start)


@contextmanager
def server(bundle: Path) -> Iterator[int]:
    """A server bound to one core; yields its gRPC port."""
    command = ["taskset", "-c", str(_SERVER_CORE), sys.executable, "-m", "samhq_runtime", "serve", str(bundle)]
    command += ["--timeout-s", "600", "--threads", "1", "--http-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


async def load(
    port: int, images: Sequence[bytes], requests: Sequence[Request], *, concurrency: int
) -> tuple[float, list[float], list[Answer]]:
    """Seconds for all, and seconds and answer of each; `concurrency` clients take the requests in order."""
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

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(concurrency)))
        return time.perf_counter() - start, latencies, answers


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


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--bare", type=int, default=1250, help="first requests that the bare runtime does; 0: none")
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
