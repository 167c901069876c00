"""SAM-HQ in PyTorch: own modules, written to be traced, that load official state dicts strictly.

In: an `Architecture`. Out: a `PlainSam` or `Sam`. Imports the contract alone.
"""

from .sam import PlainSam, Sam
from .token_fusion import TOKEN_FUSIONS

__all__ = ["TOKEN_FUSIONS", "PlainSam", "Sam"]
