"""Options that are whole numbers, as callers of the library give them."""

from __future__ import annotations

import operator
from typing import Any

from .errors import ConfigError


def require_whole(name: str, value: Any, least: int, most: int | None, expected: str) -> int:
    """`value` as an int from `least` to `most`; numpy's integers are some, truth values and text are not.

    Raises ConfigError that says what was `expected`.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        raise ConfigError(f"{name}: got {value!r}, expected {expected}")
    return number
