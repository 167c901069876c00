"""Where a training computes and in what."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from samhq_runtime.errors import BackendUnavailable, ConfigError

_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """A device, and the dtype of autocast on it; `None` computes in float32.

    Trained parameters, optimiser and losses are float32 in any case.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype | None = None

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps gradients within float16's range; does nothing in other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)


CPU = Compute()


def compute_of(device: str | None, mixed_precision: str | None) -> Compute:
    """What these options mean here.

    Raises:
        ConfigError: not the name of a device, or float16 on a CPU, whose kernels for it are slow and incomplete.
        BackendUnavailable: the device is not there.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as e:
        raise ConfigError(f"--device: got {device!r}, expected cpu, cuda or cuda:N") from e
    if chosen.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device: got {device!r}, expected cpu, cuda or cuda:N")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise BackendUnavailable(f"--device {device}: PyTorch {torch.__version__} finds {found} GPUs here")
    if mixed_precision == "fp16" and chosen.type == "cpu":
        raise ConfigError("--mixed-precision fp16: for GPUs; on a CPU take bf16 or no")
    return Compute(chosen, _DTYPES[mixed_precision or _default(chosen)])


def _default(device: torch.device) -> str:
    if device.type == "cpu":
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
