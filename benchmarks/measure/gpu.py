"""Latency on an NVIDIA GPU: TensorRT engines and ONNX Runtime's providers beside PyTorch, eager and compiled.

Needs a GPU, the extras `export`, `trt` and a torch with CUDA; prints a Markdown table and writes every figure as JSON:

    python -m benchmarks gpu --variants vit_b vit_l vit_h --precisions fp32 fp16 bf16 int8 --output gpu.json

Weights are seeded unless `--checkpoint vit_b=FILE` names a file: time does not depend on their values. Every call waits
for its results; the median of `--repeats` calls after as many to warm up is reported, p90 and p99 go to the JSON. "Of
the matmul rate" is the encoder's arithmetic over its time, as a share of what one large matrix product of the same type
reaches on this GPU in the same run: 100 % is out of reach, the gap is what there is to win.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import ExportConfig
from samhq_exporter.model import Sam
from samhq_exporter.model.image_encoder import Attention
from samhq_exporter.pipeline import export_bundle
from samhq_exporter.precision.policy import PRECISIONS
from samhq_exporter.scenes.sample import default_scene
from samhq_exporter.weights.checkpoint import load_checkpoint, to_official_keys
from samhq_runtime import Bundle, Predictor, SamHqError, load_bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.engine import FLAVOURS, build_engines
from samhq_runtime.nvidia.flavour import Flavour, load_tensorrt
from samhq_runtime.nvidia.gpu import current_gpu, driver_cuda_version, driver_version
from samhq_runtime.session import Tensor
from samhq_runtime.tables import format_table

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
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
MATMUL_SIDE = 8192
Row = dict[str, Any]


class FusedAttention(Attention):
    """The same numbers from PyTorch's fused kernel."""

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
        return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)


def main(argv: Sequence[str] | None = None) -> None:
    options = parse(argv)
    gpu = current_gpu()
    if gpu is None or not torch.cuda.is_available():
        raise SystemExit("error: no NVIDIA GPU that torch can use; `samhq doctor` says what is missing")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 is float32 everywhere
    machine = {
        "gpu": vars(gpu),
        "driver": driver_version(),
        "cuda": driver_cuda_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        **{flavour.name: tensorrt_version(flavour) for flavour in FLAVOURS.values()},
        "gpu_state": gpu_state(),
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in options.variants:
            checkpoint = options.checkpoint.get(variant) or seeded(variant, Path(folder))
            for precision in options.precisions:
                rate = matmul_rate(DTYPES[precision], options.repeats) if precision in DTYPES else None
                for row in measure(checkpoint, precision, Path(folder), options.repeats, compiled=options.compile):
                    timed_here = rate is not None and row.get("encoder")
                    share = row["flop"] / (row["encoder"]["p50"] / 1e3) / rate if timed_here else None
                    rows.append(
                        {"variant": variant, "precision": precision, "matmul_flops": rate, "share": share, **row}
                    )
                    print(format_row(rows[-1]), flush=True)
                    if options.output:  # after every row: what was measured stays, whatever comes next
                        content = {"machine": machine, "rows": rows}
                        options.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"\n{gpu.name} ({gpu.compute_capability}), driver {machine['driver']}, medians in ms\n\n{table(rows)}")


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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Latency of SAM-HQ on an NVIDIA GPU.")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["vit_b"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--checkpoint", action="append", default=[], metavar="VARIANT=FILE")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--output", type=Path, metavar="JSON")
    options = parser.parse_args(argv)
    options.checkpoint = {name: Path(file) for name, _, file in (text.partition("=") for text in options.checkpoint)}
    return options


def seeded(variant: str, folder: Path) -> Path:
    """A checkpoint of random weights, small enough to keep activations in the range of half precision."""
    path = folder / f"{variant}.pth"
    if not path.exists():
        torch.manual_seed(0)
        sam = Sam(VARIANTS[variant])
        for parameter in sam.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        torch.save(to_official_keys(sam.state_dict()), path)
    return path


def measure(checkpoint: Path, precision: str, folder: Path, repeats: int, *, compiled: bool) -> Iterator[Row]:
    """One row per backend; a backend that cannot be had is a row with the reason."""
    if precision in DTYPES:  # PyTorch has no int8 that would compare
        yield from measure_torch(checkpoint, precision, repeats, compiled=compiled)
    flop = count_flop(checkpoint)
    output = folder / f"{checkpoint.stem}-{precision}"
    try:
        result = export_bundle(ExportConfig(checkpoint=checkpoint, output=output, precision=precision))
    except SamHqError as e:  # seeded weights may not pass the parity gate
        yield {"backend": "export", "flop": flop, "refused": str(e)}
        return
    for backend, provider, target in BACKENDS:
        row: Row = {"backend": backend, "flop": flop}
        try:
            if target is not None:
                start = time.perf_counter()
                build_engines(result.path, target=target)
                row["build_s"] = time.perf_counter() - start
            yield {**row, **measure_bundle(load_bundle(result.path), (provider,), repeats), "gpu_state": gpu_state()}
        except SamHqError as e:
            yield {**row, "refused": str(e)}


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
        row["gpu_mib"] = used_mib()
    image, boxes = default_scene()
    with Predictor(bundle, providers=providers) as predictor:

        def whole() -> None:
            predictor.set_image(image)
            predictor.predict(box=boxes[0])

        row["image_to_mask"] = timed(whole, repeats)
    return row


def measure_torch(checkpoint: Path, precision: str, repeats: int, *, compiled: bool) -> Iterator[Row]:
    """PyTorch with its fused attention kernel (the position bias is the mask), eager and compiled."""
    sam = load_checkpoint(checkpoint, variant=None, token_fusion=None).sam.to("cuda", DTYPES[precision]).eval()
    for module in sam.modules():
        if isinstance(module, Attention):
            module.__class__ = FusedAttention
    side = sam.arch.image_size
    pixels = torch.zeros(1, 3, side, side, device="cuda", dtype=DTYPES[precision])
    flop = count_flop(checkpoint)
    for name, encode in (("torch eager", sam.encode_image), ("torch.compile", torch.compile(sam.encode_image))):
        if name == "torch.compile" and not compiled:
            continue

        @torch.inference_mode()
        def run(encode: Callable[..., Any] = encode) -> None:
            encode(pixels)
            torch.cuda.synchronize()

        row: Row = {"backend": name, "flop": flop}
        try:
            yield {**row, "encoder": timed(run, repeats), "gpu_mib": used_mib()}
        except RuntimeError as e:
            yield {**row, "refused": str(e).splitlines()[0]}
    del sam
    gc.collect()
    torch.cuda.empty_cache()


def decoder_feeds(bundle: Bundle, prompts: int) -> dict[str, np.ndarray]:
    sizes = bundle.manifest.sizes
    return {
        "point_coords": np.full((prompts, 2, 2), sizes.image_size / 2, np.float32),
        "point_labels": np.tile(np.array([2, 3], np.float32), (prompts, 1)),
        "mask_input": np.zeros((1, 1, sizes.low_res_size, sizes.low_res_size), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "image_index": np.zeros(prompts, np.int64),
        "mask_weights": np.eye(sizes.token_masks, dtype=np.float32)[:1],
    }


def count_flop(checkpoint: Path) -> int:
    """Floating-point operations of one image through the encoder, counted on shapes alone."""
    sam = load_checkpoint(checkpoint, variant=None, token_fusion=None).sam.to("meta")
    side = sam.arch.image_size
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        sam.encode_image(torch.zeros(1, 3, side, side, device="meta"))
    return int(counter.get_total_flops())


def matmul_rate(dtype: torch.dtype, repeats: int) -> float:
    """Operations per second of one large matrix product."""
    a = torch.randn(MATMUL_SIDE, MATMUL_SIDE, device="cuda", dtype=dtype)

    def run() -> None:
        a @ a
        torch.cuda.synchronize()

    return float(2 * MATMUL_SIDE**3 / (timed(run, repeats)["p50"] / 1e3))


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Percentiles in milliseconds; `work` waits for its results itself."""
    for _ in range(repeats):
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return {f"p{q}": float(np.percentile(times, q)) for q in (50, 90, 99)}


def used_mib() -> float:
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20


def format_row(row: Row) -> str:
    return " | ".join(cells(row))


def cells(row: Row) -> tuple[str, ...]:
    if "refused" in row:
        return row["variant"], row["precision"], row["backend"], row["refused"][:60], "-", "-", "-", "-", "-"
    figures = (row.get(name) for name in ("encoder", *(f"decoder_{n}" for n in PROMPTS), "image_to_mask"))
    share = row.get("share")
    return (
        row["variant"],
        row["precision"],
        row["backend"],
        *(f"{figure['p50']:.2f}" if figure else "-" for figure in figures),
        f"{share:.0%}" if share else "-",
        f"{row['gpu_mib']:.0f}",
    )


def table(rows: list[Row]) -> str:
    decoders = (f"decoder, {n} prompts" for n in PROMPTS)
    header = ("variant", "precision", "backend", "encoder", *decoders, "image to mask", "of the matmul rate", "GPU MiB")
    return format_table(header, [cells(row) for row in rows])
