"""What several commands read from their arguments."""

from __future__ import annotations

from ..session.ort_providers import PROVIDERS
from ..session.providers import ENGINE_PROVIDERS, OPENVINO

_TOGETHER = [name for name, provider in PROVIDERS.items() if not provider.plugin]
_ALONE = [*(name for name in PROVIDERS if name not in _TOGETHER), OPENVINO, next(iter(ENGINE_PROVIDERS))]
PROVIDER_NAMES = [*_TOGETHER, *_ALONE]
PROVIDERS_HELP = (
    f"{', '.join(_TOGETHER)}, in order of preference; or one of {', '.join(_ALONE)} (the bundle's TensorRT engines)"
)


def provider_names(text: str) -> tuple[str, ...]:
    """`cuda,cpu` -> ("cuda", "cpu"); whether they exist is the session's business."""
    return tuple(text.split(","))
