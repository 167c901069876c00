"""Train the demo checkpoint: `python -m samhq_exporter.demo.train --output run0/sam_hq_demo.safetensors`.

Three stages, each of which leaves its weights beside the output: SAM on exact masks, what draws its masks on coarse
ones, HQ on exact ones with SAM frozen. A call that was stopped goes on where it was when it is repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from samhq_runtime.files import sha256_of

from ..architecture import TOKEN_FUSIONS, VARIANTS
from ..model import PlainSam
from ..training.data import Sample
from ..training.evaluate import output_names, summarise
from ..training.hq_stage import fresh_hq, hq_training
from ..training.optimiser import Schedule
from ..training.progress import run_to_end
from ..training.training import Training
from ..weights.checkpoint import load_checkpoint, to_official_keys
from .data import Scenes, draw_samples
from .evaluate import gains, held_out_scores, held_out_seeds
from .pictures import write_pictures
from .sam_stage import DRAWING_MODULES, fresh_sam, sam_training

_SAVE_EVERY = 50  # steps
_PICTURED = 4  # held-out scenes
_ARCH = VARIANTS["demo"]


def save_checkpoint(sam: PlainSam, path: Path) -> None:
    """Write the model under the official names, in half precision."""
    state = {key: value.half().contiguous() for key, value in to_official_keys(sam.state_dict()).items()}
    partial_file = path.with_name(f"{path.name}.partial")
    save_file(state, partial_file, metadata={"token_fusion": sam.fusion_mode})
    partial_file.replace(path)


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    sources: dict[str, Path] = {}
    cpu_seconds: dict[str, int] = {}
    if args.sam_from is None:
        sources["exact"] = args.exact_sam or _stage(args, "exact", _exact_stage, args.sam_steps, cpu_seconds)
        make = partial(_coarse_stage, sources["exact"])
        sources["coarse"] = _stage(args, "coarse", make, args.coarse_steps, cpu_seconds)
    else:
        sources["coarse"] = args.sam_from
    hq = _stage(args, "hq", partial(_hq_stage, sources["coarse"]), args.hq_steps, cpu_seconds)
    shutil.copyfile(hq, args.output)
    write_results(args, sources, cpu_seconds)


MakeTraining = Callable[[argparse.Namespace, Schedule], Training]


def _stage(args: argparse.Namespace, name: str, make: MakeTraining, steps: int, cpu_seconds: dict[str, int]) -> Path:
    """The file with the weights of a stage that is done, now or earlier; `cpu_seconds` learns its cost."""
    weights, state = (args.output.with_name(f"{name}.{suffix}") for suffix in ("safetensors", "state"))
    cost = args.output.with_name(f"{name}.json")
    if not weights.exists():
        schedule = Schedule(steps, args.batch, args.objects, args.learning_rate, args.seed)
        training = make(args, schedule)
        run_to_end(training, state, label=name, steps=steps, save_every=_SAVE_EVERY)
        cost.write_text(json.dumps({"cpu_seconds": round(training.cpu_seconds)}))
        save_checkpoint(training.models[0], weights)
    cpu_seconds[name] = json.loads(cost.read_text())["cpu_seconds"]
    return weights


def _exact_stage(args: argparse.Namespace, schedule: Schedule) -> Training:
    return sam_training(fresh_sam(_ARCH, args.seed), training_scenes(args), schedule)


def _coarse_stage(exact: Path, args: argparse.Namespace, schedule: Schedule) -> Training:
    scenes = training_scenes(args, coarse=True)
    return sam_training(load_checkpoint(exact).sam_hq, scenes, schedule, trained=DRAWING_MODULES)


def _hq_stage(coarse: Path, args: argparse.Namespace, schedule: Schedule) -> Training:
    sam = fresh_hq(load_checkpoint(coarse).sam, args.token_fusion, args.seed)
    return hq_training([sam], training_scenes(args), schedule)


@cache
def _samples(seeds: range, workers: int, coarse: bool) -> list[Sample]:
    return draw_samples(seeds, size=_ARCH.image_size, workers=workers, coarse=coarse)


def training_scenes(args: argparse.Namespace, *, coarse: bool = False) -> Scenes:
    seeds = range(args.seed * args.images, (args.seed + 1) * args.images)
    return Scenes(_samples(seeds, args.threads, coarse))


def write_results(args: argparse.Namespace, sources: dict[str, Path], cpu_seconds: dict[str, int]) -> None:
    """Measure the written file, so after rounding to half precision; `results.json` and `held_out.png` go beside it."""
    held_out = _samples(held_out_seeds(args.held_out), args.threads, coarse=False)
    sam = load_checkpoint(args.output).sam_hq
    scores = held_out_scores(sam, held_out)
    objects = [len(sample.masks) for sample in held_out]
    results: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in sam.parameters()),
        "file_bytes": args.output.stat().st_size,
        "file_sha256": sha256_of(args.output),
        "options": {key: value for key, value in vars(args).items() if not isinstance(value, Path | None)},
        "sam_sha256": {name: sha256_of(path) for name, path in sources.items()},
        "cpu_seconds": cpu_seconds,
        "held_out_objects": sum(objects),
        "held_out": {name: summarise(values, output_names(sam)) for name, values in scores.items()},
        "hq_gain": gains(scores, objects),
    }
    text = json.dumps(results, indent=2)
    args.output.with_name("results.json").write_text(text + "\n")
    write_pictures(sam, held_out[:_PICTURED], args.output.with_name("held_out.png"))
    print(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, required=True, help="checkpoint; results.json, held_out.png go beside it"
    )
    parser.add_argument("--exact-sam", type=Path, metavar="FILE", help="skip the first stage: its SAM is in this file")
    parser.add_argument("--sam-from", type=Path, metavar="FILE", help="train only HQ, on the SAM of this file")
    numbers = parser.add_argument_group("numbers, with defaults")
    parser.add_argument("--token-fusion", choices=list(TOKEN_FUSIONS), default="hadamard")
    for name, default, meaning in _NUMBERS:
        numbers.add_argument(name, type=type(default), default=default, help=f"{meaning} ({default})")
    return parser


_NUMBERS: tuple[tuple[str, int | float, str], ...] = (
    ("--sam-steps", 2400, "steps of SAM on exact masks"),
    ("--coarse-steps", 200, "steps of SAM on coarse masks"),
    ("--hq-steps", 2400, "steps of HQ on exact masks"),
    ("--images", 1500, "scenes drawn for training"),
    ("--held-out", 100, "scenes drawn for the evaluation"),
    ("--batch", 4, "images per step"),
    ("--objects", 6, "objects prompted per image and step"),
    ("--learning-rate", 1.5e-3, "highest learning rate"),
    ("--threads", 1, "threads of PyTorch, processes that draw"),
    ("--seed", 0, "of the scenes, the weights and the batches"),
)


if __name__ == "__main__":
    main()
