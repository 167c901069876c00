"""What a server takes anew at SIGHUP, while it goes on answering."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping

from ..errors import SamHqError

log = logging.getLogger(__name__)

Reader = Callable[[], Awaitable[None] | None]


def hangup_signal() -> asyncio.Event:
    """Set by every SIGHUP from now on, which would end the process otherwise."""
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    return hangup


async def reload_at(hangup: asyncio.Event, readers: Mapping[str, Reader]) -> None:
    """Call each reader, by the name of what it reads, whenever `hangup` is set, until cancelled.

    Where one fails, the others are called all the same: what it read before stays in use.
    """
    while True:
        await hangup.wait()
        hangup.clear()
        for name, read in readers.items():
            try:
                reading = read()
                if reading is not None:
                    await reading
            except Exception as e:
                bug = not isinstance(e, (SamHqError, OSError, MemoryError))
                reason = str(e) or type(e).__name__
                log.error("SIGHUP: %s; the old %s stays in use", reason, name, exc_info=bug)
            else:
                log.info("SIGHUP: %s read again", name)
