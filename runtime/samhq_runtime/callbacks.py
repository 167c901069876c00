"""What work that takes long calls while it goes on."""

from __future__ import annotations

from collections.abc import Callable

Show = Callable[[float, str], None]  # the fraction done, and what is being done
Notice = Callable[[str], None]  # one line for the user
