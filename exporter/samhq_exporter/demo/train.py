"""Train the demo checkpoint: `python -m samhq_exporter.demo.train --output sam_hq_demo.safetensors`."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from samhq_runtime.files import sha256_of

from ..architecture import VARIANTS
from ..model import TOKEN_FUSIONS, Sam
from ..weights.checkpoint import load_checkpoint, to_official_keys
from .data import draw_samples
from .evaluate import evaluate, held_out_seeds
from .optimiser import Schedule
from .stages import Report, train_hq, train_sam

_SAVE_EVERY = 200  # steps
_STAGES = ("scenes", "sam", "hq")


def save_checkpoint(sam: Sam, path: Path) -> None:
    """Write the model under the official names, in half precision."""
    state = {key: value.half().contiguous() for key, value in to_official_keys(sam.state_dict()).items()}
    save_file(state, path, metadata={"token_fusion": sam.fusion_mode})


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    arch = VARIANTS["demo"]
    hq_schedule = Schedule(args.hq_steps, args.batch, args.objects, args.learning_rate, args.seed)
    sam_schedule = replace(hq_schedule, steps=args.sam_steps)

    clock = [_clock()]
    train_seeds = range(args.seed * args.images, (args.seed + 1) * args.images)
    samples = draw_samples(train_seeds, size=arch.image_size, workers=args.threads)
    held_out = draw_samples(held_out_seeds(args.held_out), size=arch.image_size, workers=args.threads)
    clock.append(_clock())
    if args.sam_from is None:
        sam = train_sam(arch, samples, sam_schedule, _progress("SAM", args.sam_steps, args.output))
    else:
        sam = load_checkpoint(args.sam_from).sam_hq
    clock.append(_clock())
    (sam,) = train_hq(sam, [args.token_fusion], samples, hq_schedule, _progress("HQ", args.hq_steps, args.output))
    clock.append(_clock())

    save_checkpoint(sam, args.output)
    results = {
        "parameters": sum(parameter.numel() for parameter in sam.parameters()),
        "file_bytes": args.output.stat().st_size,
        "file_sha256": sha256_of(args.output),
        "options": {key: value for key, value in vars(args).items() if key not in ("output", "sam_from")},
        "seconds": _durations([wall for wall, _ in clock]),
        "cpu_seconds": _durations([cpu for _, cpu in clock]),
        "held_out_objects": sum(len(sample.masks) for sample in held_out),
        "held_out": evaluate(load_checkpoint(args.output).sam, held_out),  # the file, so after rounding to fp16
    }
    text = json.dumps(results, indent=2)
    args.output.with_name("results.json").write_text(text + "\n")
    print(text)


def _clock() -> tuple[float, float]:
    """Wall clock and processor seconds, those of finished child processes included."""
    return time.perf_counter(), sum(os.times()[:4])


def _durations(clock: Sequence[float]) -> dict[str, int]:
    return {stage: round(b - a) for stage, (a, b) in zip(_STAGES, pairwise(clock), strict=True)}


def _progress(stage: str, steps: int, output: Path) -> Report:
    """A progress bar with the running mean of the loss, and the model so far saved from time to time."""
    bar = tqdm(total=steps, desc=stage, mininterval=10)
    mean = 0.0

    def report(step: int, loss: float, sam: Sam) -> None:
        nonlocal mean
        mean = loss if step == 1 else 0.98 * mean + 0.02 * loss
        bar.set_postfix(loss=f"{mean:.3f}", refresh=False)
        bar.update()
        if step % _SAVE_EVERY == 0:
            save_checkpoint(sam, output)

    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="checkpoint to write; results.json goes beside it")
    parser.add_argument("--sam-from", type=Path, help="take the SAM stage from this checkpoint, train only HQ")
    parser.add_argument("--token-fusion", choices=list(TOKEN_FUSIONS), default="hadamard")
    parser.add_argument("--sam-steps", type=int, default=2400)
    parser.add_argument("--hq-steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=1500, help="scenes drawn for training")
    parser.add_argument("--held-out", type=int, default=100, help="scenes drawn for the evaluation")
    parser.add_argument("--batch", type=int, default=4, help="images per step")
    parser.add_argument("--objects", type=int, default=6, help="objects prompted per image and step")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    main()
