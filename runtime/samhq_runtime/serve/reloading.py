"""What a server takes anew at SIGHUP, while it goes on answering."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping

from ..errors import SamHqError

log = logging.getLogger(__name__)


def hangup_signal() -> asyncio.Event:
    """Set by every SIGHUP from now on, which would end the process otherwise."""
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    return hangup


async def reload_at(hangup: asyncio.Event, readers: Mapping[str, Callable[[], None]]) -> None:
    """Call each reader, by the name of what it reads, whenever `hangup` is set, until cancelled."""
    while True:
        await hangup.wait()
        hangup.clear()
        for name, read in readers.items():
            try:
                read()
            except SamHqError as e:
                log.error("SIGHUP: %s; the old %s stays in use", e, name)
            else:
                log.info("SIGHUP: %s read again", name)
