"""Latency on an NVIDIA GPU: TensorRT engines and ONNX Runtime's providers beside PyTorch, eager and compiled.

Needs a GPU and the extra `export`. What else is missing (a torch with CUDA, TensorRT, TensorRT-RTX, `onnxruntime-gpu`)
becomes a row that says so:

    python -m benchmarks gpu --variants vit_b vit_l vit_h --precisions fp32 fp16 bf16 int8

Weights are seeded unless `--checkpoint vit_b=FILE` names a file: time does not depend on their values. Every call waits
for its results; the median of `--repeats` calls after as many to warm up is reported, p90 and p99 go to the JSON. "Of
the matmul rate" is the encoder's arithmetic over its time, as a share of what one large matrix product of the same type
reaches on this GPU in the same run: 100 % is out of reach, the gap is what there is to win.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.recording import Record
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import ExportConfig
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.precision.policy import PRECISIONS
from samhq_exporter.scenes.sample import default_scene
from samhq_runtime import Bundle, Predictor, SamHqError, load_bundle
from samhq_runtime.bench.sample_image import sample_boxes
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, Array
from samhq_runtime.engine import FLAVOURS, build_engines
from samhq_runtime.frames.prompts import encode_prompts
from samhq_runtime.masks.choice import MaskChoice
from samhq_runtime.nvidia.flavour import Flavour, load_tensorrt
from samhq_runtime.nvidia.gpu import current_gpu, driver_cuda_version
from samhq_runtime.session import Tensor
from samhq_runtime.tables import format_table
from tests.support.models import seeded_checkpoint

from .gpu_torch import DTYPES, Row, count_flop, matmul_rate, measure_torch, timed, used_mib

# Name, provider, and what `samhq engine` builds for it.
BACKENDS = (
    ("TensorRT", "engine:tensorrt", "tensorrt"),
    ("TensorRT-RTX", "engine:rtx", "rtx"),
    ("onnxruntime cuda", "cuda", None),
    ("onnxruntime tensorrt", "tensorrt", None),
    ("onnxruntime rtx", "rtx", None),
)
GPU_STATE = ("clocks.sm", "clocks.mem", "power.draw", "power.limit", "temperature.gpu")
PROMPTS = (1, 32)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["vit_b"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--checkpoint", action="append", default=[], metavar="VARIANT=FILE")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")


def measure(options: argparse.Namespace, record: Record) -> None:
    if current_gpu() is None:
        raise SystemExit("error: no NVIDIA GPU (or no driver) on this machine; `samhq doctor` says what is missing")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 is float32 everywhere
    record.require_setting({"repeats": options.repeats, "checkpoints": sorted(options.checkpoint)})
    record.content["gpu"] = describe_gpu()
    files = {name: Path(file) for name, _, file in (text.partition("=") for text in options.checkpoint)}
    rows = record.content.setdefault("rows", [])
    with tempfile.TemporaryDirectory() as folder:
        for variant, precision in itertools.product(options.variants, options.precisions):
            known = [row["backend"] for row in rows if (row["variant"], row["precision"]) == (variant, precision)]
            checkpoint = files.get(variant) or seeded_checkpoint(variant, Path(folder))
            for row in measured(checkpoint, precision, Path(folder), options, known):
                rows.append({"variant": variant, "precision": precision, **row})
                print(" | ".join(cells(rows[-1])), flush=True)
                record.save()  # after every row: what was measured stays, whatever comes next


def describe_gpu() -> dict[str, Any]:
    """Beside what every record says of its machine."""
    return {
        **vars(current_gpu()),
        "cuda": driver_cuda_version(),
        **{flavour.name: tensorrt_version(flavour) for flavour in FLAVOURS.values()},
        "state": gpu_state(),
    }


def tensorrt_version(flavour: Flavour) -> str:
    try:
        return load_tensorrt(flavour).version
    except SamHqError as e:
        return str(e)


def gpu_state() -> dict[str, str]:
    """Clocks, power and temperature as `nvidia-smi` tells them; empty where there is none (Jetson)."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(GPU_STATE)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(GPU_STATE, (text.strip() for text in answer.split(",")), strict=False))


def measured(
    checkpoint: Path, precision: str, folder: Path, options: argparse.Namespace, known: Collection[str]
) -> Iterator[Row]:
    """One row per backend that is not known; a backend that cannot be had is a row with the reason."""
    shared: Row = {"flop": count_flop(checkpoint)}
    if precision in DTYPES and not torch.cuda.is_available():
        if "torch" not in known:
            yield {"backend": "torch", **shared, "refused": f"torch {torch.__version__} cannot use this GPU"}
    elif precision in DTYPES:  # PyTorch has no int8 that would compare
        shared["matmul_flops"] = matmul_rate(DTYPES[precision], options.repeats)
        for row in measure_torch(checkpoint, precision, options, known):
            yield {**shared, **row}
    backends = [backend for backend in BACKENDS if backend[0] not in known]
    if not backends or "export" in known:
        return
    output = folder / f"{checkpoint.stem}-{precision}"
    try:
        bundle = load_bundle(
            export_bundle(ExportConfig(checkpoint=checkpoint, output=output, precision=precision)).path
        )
    except SamHqError as e:  # seeded weights may not pass the parity gate
        yield {"backend": "export", **shared, "refused": str(e)}
        return
    for backend, provider, target in backends:
        yield {"backend": backend, **shared, **measure_backend(bundle.path, provider, target, options.repeats)}


def measure_backend(bundle: Path, provider: str, target: str | None, repeats: int) -> Row:
    row: Row = {}
    try:
        if target is not None:
            start = time.perf_counter()
            build_engines(bundle, target=target)
            row["build_s"] = time.perf_counter() - start
        return {**row, **measure_bundle(load_bundle(bundle), (provider,), repeats), "gpu_state": gpu_state()}
    except (SamHqError, RuntimeError, OSError) as e:  # a provider's own; the other rows are measured all the same
        return {**row, "refused": " ".join(str(e).split())}


def measure_bundle(bundle: Bundle, providers: tuple[str, ...], repeats: int) -> Row:
    """Encoder and decoder alone, embeddings on the GPU, and a whole image with one box from pixels to mask."""
    sizes, row = bundle.manifest.sizes, Row()
    pixels = {"input_image": np.zeros((1, 3, sizes.image_size, sizes.image_size), np.float32)}
    with (
        bundle.open(IMAGE_ENCODER, providers=providers) as encode,
        bundle.open(MASK_DECODER, providers=providers) as decode,
    ):
        row["encoder"] = timed(lambda: encode.keep(pixels), repeats)
        features = encode.keep(pixels)
        for prompts in PROMPTS:
            feeds: dict[str, Tensor] = {**features, **decoder_feeds(bundle, prompts)}
            row[f"decoder_{prompts}"] = timed(lambda feeds=feeds: decode(feeds), repeats)  # type: ignore[misc]
        if torch.cuda.is_available():
            row["gpu_mib"] = used_mib()
    image, boxes = default_scene()
    with Predictor(bundle, providers=providers) as predictor:

        def whole() -> None:
            predictor.set_image(image)
            predictor.predict(box=boxes[0])

        row["image_to_mask"] = timed(whole, repeats)
    return row


def decoder_feeds(bundle: Bundle, prompts: int) -> dict[str, Array]:
    """Boxes, and the released mix of SAM's and the HQ mask; a plain SAM's own mask."""
    sizes = bundle.manifest.sizes
    hw = sizes.image_size, sizes.image_size
    encoded = encode_prompts(
        box=sample_boxes(prompts, hw),
        original_hw=hw,
        sizes=sizes,
    )
    weights = MaskChoice(sizes=sizes, multimask_output=False).weights()
    return encoded.feeds(weights)


def cells(row: Row) -> tuple[str, ...]:
    names = row["variant"], row["precision"], row["backend"]
    if "refused" in row:
        return *names, row["refused"][:60], "-", "-", "-", "-", "-"
    figures = [row.get(name) for name in ("encoder", *(f"decoder_{n}" for n in PROMPTS), "image_to_mask")]
    rate = row.get("matmul_flops")
    return (
        *names,
        *(f"{1e3 * figure['p50']:.2f}" if figure else "-" for figure in figures),
        f"{row['flop'] / row['encoder']['p50'] / rate:.0%}" if rate else "-",
        f"{row['gpu_mib']:.0f}" if "gpu_mib" in row else "-",
    )


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    decoders = (f"decoder, {n} prompts" for n in PROMPTS)
    header = ("variant", "precision", "backend", "encoder", *decoders, "image to mask", "of the matmul rate", "GPU MiB")
    gpu = content["gpu"]
    title = f"{gpu['name']} ({gpu['compute_capability']}), medians in ms"
    return {"gpu": f"{title}\n\n{format_table(header, [cells(row) for row in content['rows']])}"}
