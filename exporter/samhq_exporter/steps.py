"""How the steps of an export are shown to whoever waits for them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

Step = Callable[[str], AbstractContextManager[object]]
"""Takes the name of a step; the step runs inside the context manager it returns."""
