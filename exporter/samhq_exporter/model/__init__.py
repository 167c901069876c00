"""SAM-HQ in PyTorch: own modules, written to be traced, that load official state dicts strictly."""

from .sam import PlainSam, Sam
from .token_fusion import TOKEN_FUSIONS

__all__ = ["TOKEN_FUSIONS", "PlainSam", "Sam"]
