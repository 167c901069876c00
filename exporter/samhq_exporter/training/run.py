"""`samhq-export train-hq` on one screen: checkpoint and pairs -> HQ parameters trained -> the checkpoint with these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from samhq_runtime.errors import ConfigError
from samhq_runtime.evaluation.dataset import Dataset
from samhq_runtime.evaluation.open import open_dataset
from samhq_runtime.files import write_whole

from ..model import PlainSam2, Sam
from ..weights.base import merged
from ..weights.checkpoint import Checkpoint, load_checkpoint, to_official_keys
from ..weights.stored import read_weights
from .compute import Compute, compute_of
from .config import TrainHqConfig
from .data import Batch, collate
from .evaluate import object_scores, output_names, summarise
from .hq_stage import HQ_MODULES, fresh_hq, hq_training, only_hq_trainable
from .optimiser import Schedule
from .pairs import Pairs, usable_names
from .progress import run_to_end
from .prompts import Prompts, boxes, padding, points_in
from .training import Training

_HELD_OUT = 10  # one image of so many is not trained on

Report = Callable[[dict[str, Any]], None]
Note = Callable[[str], None]


@dataclass(frozen=True)
class TrainHqResult:
    """The file that was written, and what was measured on the held-out images on the way: one row per measurement."""

    path: Path
    history: list[dict[str, Any]]


def train_hq(config: TrainHqConfig, *, report: Report, note: Note) -> TrainHqResult:
    """Train HQ parameters of a frozen SAM.

    Args:
        config: what to train, on what, and where to; its checkpoint and base are files.
        report: called with every measurement on the held-out images.
        note: called with what a person should know before the work begins.

    Raises:
        SamHqError: nothing was written but the state of the training, if it had begun; the message says what to do.
    """
    compute = compute_of(config.device, config.mixed_precision)
    checkpoint = load_checkpoint(config.checkpoint, base=config.base)
    if isinstance(checkpoint.sam, PlainSam2):
        raise ConfigError(f"{checkpoint.file_name}: a SAM 2, whose HQ part is not trained here; expected SAM or SAM-HQ")
    training_pairs, held_out = _pairs(config, checkpoint.sam.arch.image_size, note)
    sam = _start(config, checkpoint).to(compute.device)
    schedule = _schedule(config, len(training_pairs))
    setting = _setting(config, checkpoint, training_pairs, held_out, compute)
    training = hq_training([sam], training_pairs, schedule, compute=compute, setting=setting)

    def measure(training: Training, losses: list[float]) -> None:
        if training.step % config.evaluate_every == 0 or training.step == config.steps:
            training.history.append(_measured(training.step, sam, held_out, compute))
            report(training.history[-1])

    if not config.state.exists():
        measure(training, [])
    run_to_end(
        training,
        config.state,
        label="HQ",
        steps=config.steps,
        save_every=config.evaluate_every,
        after_step=measure,
        before_end=lambda: save_tuned(sam, config),
    )
    return TrainHqResult(config.output, training.history)


def _schedule(config: TrainHqConfig, images: int) -> Schedule:
    if config.batch > images:
        raise ConfigError(f"--batch: got {config.batch}, expected at most {images}, the images to train on")
    return Schedule(config.steps, config.batch, config.objects, config.learning_rate, config.seed)


def _pairs(config: TrainHqConfig, side: int, note: Note) -> tuple[Pairs, Pairs]:
    """What to train on and what to measure on; DatasetError if there is nothing usable."""
    dataset = open_dataset(
        config.dataset,
        images=config.images,
        masks=config.masks,
        include_crowd=config.include_crowd,
        mask_suffix=config.mask_suffix,
        white_point=config.white_point,
    )
    names = _usable(dataset, note)
    if config.held_out is not None:
        other = open_dataset(config.held_out, white_point=config.white_point)
        return Pairs(dataset, names, side), Pairs(other, _usable(other, note), side)
    if len(names) < 2:
        raise ConfigError(
            f"{config.dataset}: one usable image; expected at least two, of which one is kept to measure on, "
            "or give --held-out DATASET"
        )
    kept = set(np.random.default_rng(config.seed).permutation(len(names))[: -(-len(names) // _HELD_OUT)].tolist())
    parts: tuple[list[str], list[str]] = ([], [])
    for index, name in enumerate(names):
        parts[index in kept].append(name)
    note(f"{len(parts[0])} images to train on, {len(parts[1])} held out")
    return Pairs(dataset, parts[0], side), Pairs(dataset, parts[1], side)


def _usable(dataset: Dataset, note: Note) -> list[str]:
    names, left_out = usable_names(dataset, dataset.names)
    for line in (*dataset.notices, *left_out):
        note(line)
    return names


def _start(config: TrainHqConfig, checkpoint: Checkpoint) -> Sam:
    """The model whose HQ parameters are trained: those of the checkpoint, or new ones."""
    frozen = checkpoint.sam
    fusion = config.token_fusion or (frozen.fusion_mode if isinstance(frozen, Sam) else "independent")
    if isinstance(frozen, Sam) and not config.fresh:
        if fusion != frozen.fusion_mode:
            raise ConfigError(
                f"{checkpoint.file_name}: its HQ parameters were trained with token fusion {frozen.fusion_mode}, "
                f"--token-fusion asked for {fusion}; drop the option, or add --fresh to train new HQ parameters"
            )
        return only_hq_trainable(frozen, token_alone=config.trained == "token")
    if config.trained == "token":
        raise ConfigError(
            f"{checkpoint.file_name}: --train token tunes the token of HQ parameters that are trained already; "
            "expected SAM-HQ weights and no --fresh"
        )
    return fresh_hq(frozen, fusion, config.seed)


def _setting(
    config: TrainHqConfig, checkpoint: Checkpoint, pairs: Pairs, held_out: Pairs, compute: Compute
) -> dict[str, Any]:
    """What a training that is taken up again must have in common with the one that was stopped."""
    return {
        "checkpoint": checkpoint.sha256,
        "base": checkpoint.base and checkpoint.base.sha256,
        "token_fusion": config.token_fusion,
        "train": config.trained,
        "fresh": config.fresh,
        "dataset": pairs.dataset.fingerprint(),
        "held_out": held_out.dataset.fingerprint(),
        "mixed_precision": str(compute.dtype),
        "evaluate_every": config.evaluate_every,
    }


def _measured(step: int, sam: Sam, held_out: Pairs, compute: Compute) -> dict[str, Any]:
    scores = object_scores(sam, _held_out_batches(held_out), compute)
    return {"step": step, **{kind: summarise(values, output_names(sam)) for kind, values in scores.items()}}


def _held_out_batches(pairs: Pairs) -> Iterator[tuple[Batch, dict[str, Prompts]]]:
    """One image at a time, with a `box` and a `point` prompt for each object; always the same."""
    generator = torch.Generator().manual_seed(0)
    for sample in pairs.samples():
        batch = collate([sample])
        points = points_in(batch.masks, 1, 1.0, generator=generator) + padding(len(batch.masks))
        yield batch, {"box": boxes(batch.masks), "point": points}


def save_tuned(sam: Sam, config: TrainHqConfig) -> None:
    """Write the checkpoint, with the HQ parameters of `sam`, under the official names.

    Every other tensor is that of its file, or its base's, in the type that it has there.
    """
    trained: dict[str, torch.Tensor] = {k: v for k, v in sam.state_dict().items() if k.startswith(HQ_MODULES)}
    stored, _ = merged(read_weights(config.checkpoint), config.checkpoint, config.base)
    state = {**stored, **to_official_keys(trained)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_whole(config.output, lambda path: save_file(tensors, path, metadata={"token_fusion": sam.fusion_mode}))
