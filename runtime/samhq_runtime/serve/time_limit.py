"""A bound on waiting that costs a timer: `asyncio.wait_for` makes a task of its own for every request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Reason, RequestError


@contextmanager
def time_limit(seconds: float, message: str) -> Iterator[None]:
    """End what the current task awaits inside after so many seconds: RequestError with `message`."""
    task, late = asyncio.current_task(), False
    assert task is not None

    def end() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    except asyncio.CancelledError as e:
        if not late:
            raise
        raise RequestError(message, reason=Reason.TIMEOUT) from e
    finally:
        timer.cancel()
