"""SAM-HQ and HQ-SAM 2 in PyTorch: own modules, written to be traced, that load official state dicts strictly.

In: an `Architecture`. Out: a `PlainSam`, `Sam`, `PlainSam2` or `Sam2`. Imports the contract alone.
"""

from .sam import PlainSam, Sam, WithHqToken
from .sam2 import PlainSam2, Sam2

__all__ = ["PlainSam", "PlainSam2", "Sam", "Sam2", "WithHqToken"]
