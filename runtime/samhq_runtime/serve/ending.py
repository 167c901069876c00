"""How the process ends: at a signal, and in time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from types import TracebackType

log = logging.getLogger(__name__)

_LAST_WORDS_S = 0.2
_STOP = (signal.SIGTERM, signal.SIGINT)


def stop_signal() -> asyncio.Task[bool]:
    """Ends at the first SIGTERM or SIGINT; the second one kills the process, as if nobody listened."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        for number in _STOP:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stopped.set()

    for number in _STOP:
        loop.add_signal_handler(number, stop)
    return asyncio.create_task(stopped.wait())


class Deadline:
    """Leaves the process if the block that it is around has not ended in time; there is no time limit before `set`.

    A call into C++ cannot be interrupted, and a thread that makes one would be waited for.
    """

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def set(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, _leave)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Deadline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _leave() -> None:
    words = threading.Thread(target=log.warning, args=("left while something was still being computed",), daemon=True)
    words.start()
    words.join(_LAST_WORDS_S)  # not longer: whoever should read the log may be why it takes so long
    os._exit(0)
