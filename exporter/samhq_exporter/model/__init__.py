"""SAM-HQ in PyTorch: own modules, written to be traced, that load official state dicts strictly.

In: an `Architecture`. Out: a `PlainSam` or `Sam`. Imports the contract alone.
"""

from .sam import PlainSam, Sam

__all__ = ["PlainSam", "Sam"]
