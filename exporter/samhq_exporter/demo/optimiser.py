"""How long, on how much and at which rate a stage trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .data import Batch, Sample, random_batch

_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.01
_GRAD_NORM = 1.0
_WARMUP = 40  # steps
_DECAY = 0.4  # of the steps


@dataclass(frozen=True)
class Schedule:
    """Length and size of a stage: `images` per step, `objects` prompted in each."""

    steps: int
    images: int = 8
    objects: int = 6
    learning_rate: float = 1e-3
    seed: int = 0

    def batches(self, samples: Sequence[Sample]) -> Iterator[Batch]:
        """One random batch per step; the same seed gives the same batches."""
        rng = np.random.default_rng(self.seed)
        for _ in range(self.steps):
            yield random_batch(samples, images=self.images, objects=self.objects, rng=rng)

    def rate(self, step: int) -> float:
        """Warm-up, a plateau, and a linear decay to zero over the last `_DECAY` of the steps; 1 at most."""
        return min(1.0, (step + 1) / _WARMUP, (self.steps - step) / (_DECAY * self.steps))


class Optimiser:
    """AdamW over `parameters` alone, at the schedule's rate."""

    def __init__(self, parameters: Iterable[nn.Parameter], schedule: Schedule) -> None:
        self._parameters = list(parameters)
        rate = schedule.learning_rate
        self._adam = torch.optim.AdamW(self._parameters, lr=rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY)
        self._rates = torch.optim.lr_scheduler.LambdaLR(self._adam, schedule.rate)

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`."""
        self._adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, _GRAD_NORM)
        self._adam.step()
        self._rates.step()
