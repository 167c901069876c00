"""Work that would hold up the event loop goes to a thread; a little of it stays, as the way there costs more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
LITTLE = 1 << 18  # bytes that are parsed, hashed or packed in a fraction of a millisecond


async def off_loop(size: int, call: Callable[[], Result]) -> Result:
    """The result of `call`, which goes through `size` bytes."""
    return await asyncio.to_thread(call) if size > LITTLE else call()
