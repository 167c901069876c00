"""Optimisation steps that can be stopped after any of them and taken up again as if nothing had happened."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samhq_runtime.errors import CheckpointError, TrainingError
from samhq_runtime.files import write_whole

from ..model import PlainSam
from .compute import CPU, Compute
from .data import Batch, Source, random_batch
from .optimiser import Optimiser, Schedule

Losses = Callable[[Batch, torch.Generator], Iterator[Tensor]]  # one loss per model, each computed when it is asked for


class Training:
    """Models that train side by side on the same batches and prompts; each comes out as if trained alone.

    Only parameters that require gradients are trained. `step` counts the finished steps, `cpu_seconds` their cost.
    """

    def __init__(
        self,
        models: Sequence[PlainSam],
        source: Source,
        schedule: Schedule,
        losses: Losses,
        *,
        compute: Compute = CPU,
        setting: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin.

        Args:
            models: on the device of `compute`.
            source: where batches come from.
            schedule: how many, how large, at which rate.
            losses: of one batch, one per model.
            compute: what of it matters to the steps: the scaling of float16's gradients.
            setting: what else must be the same for a saved state to be taken up; of JSON's types.
        """
        self.models = models
        self.step, self.cpu_seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []  # what a caller notes on the way; saved and restored with the rest
        self._source, self._schedule, self._losses = source, schedule, losses
        self._setting = {**vars(schedule), **(setting or {})}
        self._trained = [{n: p for n, p in model.named_parameters() if p.requires_grad} for model in models]
        self._optimisers = [Optimiser(parts.values(), schedule, compute.scaler()) for parts in self._trained]
        self._rng = np.random.default_rng(schedule.seed)
        self._generator = torch.Generator().manual_seed(schedule.seed)

    def run(self) -> Iterator[list[float]]:
        """The losses of each step that is left; the state is whole whenever one is handed out.

        Raises TrainingError when a loss is no finite number.
        """
        images, objects = self._schedule.images, self._schedule.objects
        while self.step < self._schedule.steps:
            start = time.process_time()
            batch = random_batch(self._source, images=images, objects=objects, rng=self._rng)
            values = []
            for loss, optimiser in zip(self._losses(batch, self._generator), self._optimisers, strict=True):
                values.append(_finite(loss.item(), self.step + 1))
                optimiser.step(loss)
            self.step += 1
            self.cpu_seconds += time.process_time() - start
            yield values

    def save(self, path: Path) -> None:
        """Write the state beside `path` and rename it when complete."""
        state = {
            "setting": json.dumps(self._setting),
            "history": json.dumps(self.history),
            "step": self.step,
            "cpu_seconds": self.cpu_seconds,
            "trained": self._trained,
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "rng": json.dumps(self._rng.bit_generator.state),
            "generator": self._generator.get_state(),
        }
        write_whole(path, lambda partial: torch.save(state, partial))

    def restore(self, path: Path) -> None:
        """Go on from a saved state; CheckpointError if it is damaged or of another training."""
        state = _read(path)
        self._require_same(json.loads(state["setting"]), path)
        self.history = json.loads(state["history"])
        self.step, self.cpu_seconds = state["step"], state["cpu_seconds"]
        with torch.no_grad():
            for trained, saved in zip(self._trained, state["trained"], strict=True):
                for name, parameter in trained.items():
                    parameter.copy_(saved[name])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self._rng.bit_generator.state = json.loads(state["rng"])
        self._generator.set_state(state["generator"])

    def _require_same(self, saved: Mapping[str, Any], path: Path) -> None:
        now = json.loads(json.dumps(self._setting))
        names = [name for name in {**saved, **now} if saved.get(name) != now.get(name)]
        if names:
            differ = "; ".join(f"{name} {saved.get(name)!r}, now {now.get(name)!r}" for name in names)
            raise CheckpointError(
                f"{path}: is of a training that was stopped, with other options ({differ}); give the same options to "
                "go on, or delete the file to begin anew"
            )


def _finite(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise TrainingError(f"step {step}: the loss is {loss}, the training diverged; lower the learning rate")
    return loss


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # torch's unpickler lets any exception out of a damaged file
        raise CheckpointError(f"{path}: cannot be read as the state of a training; delete it to begin anew") from e
    return state
