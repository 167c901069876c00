"""Numbers as callers hand them over; what would lose something on its way to floats is refused."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..contract import Array
from ..errors import PromptError, reason_of

_REAL = "biuf"  # numpy's kinds; complex, dates, text and objects would lose something as floats
_RANK = 4  # of prompts, at most; a list may also hold itself


def finite_numbers(name: str, values: ArrayLike) -> Array:
    """`values` as float64.

    Raises:
        PromptError: not an array of real numbers, a masked one, or NaN, infinity or beyond float32 in it.
    """
    try:
        given = np.asarray(values)
    except (TypeError, ValueError, OverflowError, RuntimeError) as e:  # RuntimeError: tensors that require grad
        raise PromptError(f"{name}: not numbers ({reason_of(e)}){_advice(values)}") from e
    if given.dtype.kind not in _REAL:
        raise PromptError(f"{name}: not numbers (got values of type {given.dtype}, expected float or int)")
    if _is_masked(values):
        raise PromptError(f"{name}: a masked array, whose mask would be dropped; choose its valid values first")
    with np.errstate(over="ignore"):
        finite = np.isfinite(given.astype(np.float32)).all()
    if not finite:
        raise PromptError(f"{name}: NaN, infinity, or a number beyond float32 in it")
    return given.astype(np.float64)


def _is_masked(values: object) -> bool:
    if isinstance(values, list | tuple):
        return any(map(_is_masked, values))
    return isinstance(values, np.ma.MaskedArray)


def _advice(values: object) -> str:
    """For torch tensors, alone or in lists, that numpy cannot read: on a GPU, with a gradient, of bfloat16."""
    for _ in range(_RANK):
        if isinstance(values, list | tuple) and values:
            values = values[0]
    return "; of torch tensors give tensor.detach().cpu().float().numpy()" if hasattr(values, "detach") else ""
