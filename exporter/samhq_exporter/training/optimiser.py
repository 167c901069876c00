"""How long, on how much and at which rate a stage trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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

    def rate(self, step: int) -> float:
        """Warm-up, a plateau, and a linear decay to zero over the last `_DECAY` of the steps; 1 at most."""
        return min(1.0, (step + 1) / _WARMUP, (self.steps - step) / (_DECAY * self.steps))


class Optimiser:
    """AdamW over `parameters` alone, at the schedule's rate."""

    def __init__(self, parameters: Iterable[nn.Parameter], schedule: Schedule, scaler: torch.amp.GradScaler) -> None:
        self._parameters = list(parameters)
        self._scaler = scaler
        rate = schedule.learning_rate
        self._adam = torch.optim.AdamW(self._parameters, lr=rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY)
        self._rates = torch.optim.lr_scheduler.LambdaLR(self._adam, schedule.rate)

    def step(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`."""
        self._adam.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._adam)
        nn.utils.clip_grad_norm_(self._parameters, _GRAD_NORM)
        self._scaler.step(self._adam)
        self._scaler.update()
        self._rates.step()

    def state_dict(self) -> dict[str, Any]:
        return {
            "adam": self._adam.state_dict(),
            "rates": self._rates.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._adam.load_state_dict(state["adam"])
        self._rates.load_state_dict(state["rates"])
        self._scaler.load_state_dict(state["scaler"])
