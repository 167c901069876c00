"""Which GPUs have float8 arithmetic: Ada, Hopper, Blackwell, Thor."""

from __future__ import annotations

from dataclasses import replace

from ..errors import BackendUnavailable, ConfigError
from .flavour import TensorRT
from .options import EngineOptions

_OLDEST = 8.9
_CURE = "export with --precision int8 or fp16 for it"


def for_float8(tensorrt: TensorRT, options: EngineOptions) -> EngineOptions:
    """The options for an engine with float8 products: ahead of time, by default, those GPUs that have it.

    Raises:
        ConfigError: a GPU was asked for that has none.
        BackendUnavailable: the one of this machine, which the engine would be for, has none.
    """
    default = tensorrt.flavour.default_capabilities
    if not default:
        gpu = tensorrt.gpu
        if gpu is not None and float(gpu.compute_capability) < _OLDEST:
            raise BackendUnavailable(
                f"{gpu.name} ({gpu.compute_capability}) has no float8 arithmetic, {_OLDEST} is the first that has; "
                f"{_CURE}"
            )
        return options
    lacking = [text for text in options.compute_capabilities if float(text) < _OLDEST]
    if lacking:
        raise ConfigError(
            f"--compute-capability {lacking[0]}: has no float8 arithmetic, {_OLDEST} is the first that has; {_CURE}"
        )
    chosen = options.compute_capabilities or tuple(text for text in default if float(text) >= _OLDEST)
    return replace(options, compute_capabilities=chosen)
