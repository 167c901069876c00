"""What PyTorch measures for the GPU benchmark: its own encoder, and what the GPU is capable of."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from samhq_exporter.model.image_encoder import Attention
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.bench.measuring import repeat
from samhq_runtime.bench.stats import summarise

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MATMUL_SIDE = 8192
Row = dict[str, Any]


class FusedAttention(Attention):
    """The same numbers from PyTorch's fused kernel."""

    def attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.transpose(1, 2) for x in (queries, keys, values))
        return F.scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2)


def measure_torch(
    checkpoint: Path, precision: str, options: argparse.Namespace, known: Collection[str]
) -> Iterator[Row]:
    """PyTorch with its fused attention kernel (the position bias is the mask), eager and compiled."""
    sam = with_fused_attention(load_checkpoint(checkpoint).sam).to("cuda", DTYPES[precision]).eval()
    side = sam.arch.image_size
    pixels = torch.zeros(1, 3, side, side, device="cuda", dtype=DTYPES[precision])
    ways = {"torch eager": sam.encode_image}
    if options.compile:
        ways["torch.compile"] = torch.compile(sam.encode_image)
    for name in (name for name in ways if name not in known):

        @torch.inference_mode()
        def run(encode: Callable[..., Any] = ways[name]) -> None:
            encode(pixels)
            torch.cuda.synchronize()

        try:
            yield {"backend": name, "encoder": timed(run, options.repeats), "gpu_mib": used_mib()}
        except RuntimeError as e:
            yield {"backend": name, "refused": str(e).splitlines()[0]}
    del sam
    gc.collect()
    torch.cuda.empty_cache()


def with_fused_attention(module: nn.Module) -> Any:
    """The module, its attention replaced by the fused one with the same weights."""
    for name, child in module.named_children():
        if isinstance(child, Attention):
            fused = FusedAttention(child.dim, child.num_heads, grid=child.grid, window_size=child.side)
            fused.load_state_dict(child.state_dict())
            setattr(module, name, fused)
        else:
            with_fused_attention(child)
    return module


def count_flop(checkpoint: Path) -> int:
    """Floating-point operations of one image through the encoder, counted on shapes alone."""
    sam = load_checkpoint(checkpoint).sam.to("meta")
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

    return float(2 * MATMUL_SIDE**3 / (timed(run, repeats)["p50"]))


def timed(work: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Seconds, summarised; `work` waits for its results itself."""
    repeat(work, repeats)
    return summarise(repeat(work, repeats))


def used_mib() -> float:
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**20
