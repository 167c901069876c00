"""`samhq-export train-hq`: the options, and what is printed on the way."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from samhq_runtime.commands.options import add_white_point
from samhq_runtime.errors import interrupted

from ..architecture import TOKEN_FUSIONS
from ..training.config import MIXED_PRECISIONS, TRAINED, TrainHqConfig


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "train-hq",
        help="train HQ parameters of a frozen SAM on images and masks",
        description="Train the HQ token, or all HQ parameters, of a frozen SAM or SAM-HQ on images and masks of your "
        "own, and write the checkpoint with these. A training that was stopped goes on when the command is repeated.",
    )
    parser.set_defaults(run=run, extras="export,train,cpu")
    parser.add_argument("checkpoint", type=Path, help="SAM or SAM-HQ weights: all that --checkpoint of an export takes")
    parser.add_argument("--base", type=Path, help="the whole SAM, for a checkpoint of the mask decoder alone")
    parser.add_argument("--dataset", type=Path, required=True, help="images and masks, as samhq eval reads them")
    parser.add_argument("--output", type=Path, required=True, metavar="SAFETENSORS", help="checkpoint to write")
    _add_data_options(parser.add_argument_group("data"))
    _add_training_options(parser.add_argument_group("training"))
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")


def _add_data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--images", type=Path, metavar="DIR", help="images of an annotation file")
    group.add_argument("--masks", type=Path, metavar="DIR", help="masks, for images directly in the dataset's folder")
    group.add_argument("--mask-suffix", metavar="SUFFIX", help="how masks are named after their image's stem")
    group.add_argument("--include-crowd", action="store_true", help="take annotations with iscrowd as objects")
    add_white_point(group)
    group.add_argument(
        "--held-out",
        type=Path,
        metavar="DATASET",
        help="what to measure on (default: a tenth of the dataset, which is not trained on then)",
    )


def _add_training_options(group: argparse._ArgumentGroup) -> None:
    default = TrainHqConfig
    group.add_argument(
        "--token-fusion",
        choices=TOKEN_FUSIONS,
        help="how the HQ token is made (default: the checkpoint's, else independent)",
    )
    group.add_argument(
        "--train",
        dest="trained",
        choices=TRAINED,
        default=default.trained,
        help=f"all HQ parameters, or the HQ token alone (default: {default.trained})",
    )
    group.add_argument("--fresh", action="store_true", help="new HQ parameters although the checkpoint has some")
    for name, meaning in (
        ("steps", "optimisation steps"),
        ("batch", "images per step"),
        ("objects", "objects per image and step"),
        ("learning_rate", "the highest"),
        ("evaluate_every", "steps between measurements, and between saved states"),
        ("seed", "of all that is random"),
    ):
        value = getattr(default, name)
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(flag, type=type(value), default=value, metavar="N", help=f"{meaning} (default: {value})")
    group.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if PyTorch has one)")
    group.add_argument(
        "--mixed-precision",
        choices=MIXED_PRECISIONS,
        help="of the products; parameters stay float32 (default: bf16 or fp16 on GPUs, no on CPUs)",
    )


def run(options: argparse.Namespace) -> None:
    config = TrainHqConfig(**{field.name: getattr(options, field.name) for field in fields(TrainHqConfig)})
    from ..training.run import train_hq
    from ..weights.fetching import fetched

    base = None if config.base is None else fetched(config.base)
    config = replace(config, checkpoint=fetched(config.checkpoint), base=base)
    with interrupted(_outcome(config)):
        result = train_hq(config, report=_print_measured, note=_print_note)
    first, last = result.history[0], result.history[-1]
    print(f"{result.path}: box mIoU on the held-out images {_gain(first, last)}")
    if last["box"]["sam_and_hq"]["mean_iou"] <= last["box"]["sam_only"]["mean_iou"]:
        _print_note("the HQ mask is no better than SAM's on the held-out images; train longer, or on more images")


def _outcome(config: TrainHqConfig) -> str:
    return f"{config.output} was not written; the same command goes on from {config.state} if that is there"


def _gain(first: dict[str, Any], last: dict[str, Any]) -> str:
    before, after = (row["box"]["sam_and_hq"]["mean_iou"] for row in (first, last))
    return f"{before:.4f} before, {after:.4f} after; SAM alone {last['box']['sam_only']['mean_iou']:.4f}"


def _print_measured(row: dict[str, Any]) -> None:
    """One line per measurement; the first has the names."""
    parts = []
    for prompt in ("box", "point"):
        sam, both = (row[prompt][output] for output in ("sam_only", "sam_and_hq"))
        parts.append(
            f"{prompt} mIoU {sam['mean_iou']:.4f} -> {both['mean_iou']:.4f}, "
            f"boundary IoU {sam['mean_boundary_iou']:.4f} -> {both['mean_boundary_iou']:.4f}"
        )
    print(f"step {row['step']}: SAM -> SAM-HQ, {'; '.join(parts)}", flush=True)


def _print_note(text: str) -> None:
    print(text, file=sys.stderr)
