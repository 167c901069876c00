"""What is held for clients, in bytes, against one limit: bodies that arrive, masks, answers that are not read yet.

Where there is no room, a request whose body still arrives, and that has had its time, gives its place to others:
clients that send slowly take nothing from those that are ready. The last to come is the first to be let in, as under
such an attack it is the one most likely to be served.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType

from .errors import Reason, RequestError

_STEP = 1_000_000  # reserved at once, so that small pieces of a body cost nothing
_PATIENCE_S = 1.0  # what a body may take before it can lose its place
_TICK_S = 0.1
_MOST_WAITING = 1024


@dataclass(eq=False)
class _Waiting:
    holding: Holding
    size: int
    place: asyncio.Future[None]


class Budget:
    """Of one event loop; not thread-safe."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.arriving: dict[Holding, None] = {}  # in order of arrival
        self.holdings: set[Holding] = set()  # of all requests in flight
        self._waiting: list[_Waiting] = []

    def fits(self, size: int) -> bool:
        """Whether there is room, if need be after ending the oldest request that still arrives and was given time."""
        while self.used + size > self.limit:
            oldest = next(iter(self.arriving), None)
            if oldest is None or not oldest.overdue or not oldest.give_up():
                return False
        return True

    async def reserve(self, holding: Holding, size: int) -> None:
        """Wait until `size` bytes are `holding`'s; the caller bounds the time."""
        if not self._waiting and self.fits(size):
            holding.add(size)
            return
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.pop(0).place.cancel()
        waiting = _Waiting(holding, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            while not waiting.place.done():
                self.admit()
                await asyncio.wait([waiting.place], timeout=_TICK_S)
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        if waiting.place.cancelled():
            raise busy()

    def admit(self) -> None:
        """Let in who waits, the latest first."""
        while self._waiting and self.fits(self._waiting[-1].size):
            waiting = self._waiting.pop()
            waiting.holding.add(waiting.size)
            waiting.place.set_result(None)


class Holding:
    """One request's share, from its first byte until the last of its answer has left: a context manager in its task."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0
        self._reserved = 0
        self._start: float | None = None
        self.refusal: RequestError | None = None
        self._task = asyncio.current_task()

    @property
    def overdue(self) -> bool:
        return self._start is not None and time.monotonic() - self._start > _PATIENCE_S

    async def arrive(self, size: int) -> None:
        """So many more bytes of the body are there, or are about to be; waits for room."""
        self._size += size
        if self._size > self._reserved:
            more = -(-(self._size - self._reserved) // _STEP) * _STEP
            await self._budget.reserve(self, more)

    def arrived(self, size: int) -> None:
        """The body is complete and takes `size` bytes; the place is this request's now."""
        self._budget.arriving.pop(self, None)
        self._size = size
        if size > self._reserved:
            self.take(size - self._reserved)
        else:
            self._free(self._reserved - size)

    def take(self, size: int) -> None:
        """So many more bytes, at once or not at all: whoever holds some never waits for others.

        Raises:
            RequestError: there is no room.
        """
        if not self._budget.fits(size):
            raise busy()
        self.add(size)

    def give_up(self) -> bool:
        """Have the task end, and others take its place; False if it was told before and has not ended yet."""
        self._budget.arriving.pop(self, None)
        if not self.refuse(RequestError("the request came too slowly while others waited", reason=Reason.BUSY)):
            return False
        self._subtract(self._reserved)
        return True

    def refuse(self, refusal: RequestError) -> bool:
        """Have the task end with this error, whatever it waits for; False if it was told before."""
        if self.refusal is not None or self._task is None:
            return False
        self.refusal = refusal
        return self._task.cancel()

    def __enter__(self) -> Holding:
        self._budget.holdings.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.holdings.discard(self)
        self._budget.arriving.pop(self, None)
        self._free(self._reserved)
        if self.refusal is not None and isinstance(error, asyncio.CancelledError):
            raise self.refusal from error

    def add(self, size: int) -> None:
        """Count so many bytes as this request's; its time runs from the first on, not while it waits for room."""
        if self._start is None:
            self._start = time.monotonic()
            self._budget.arriving[self] = None
        self._reserved += size
        self._budget.used += size

    def _free(self, size: int) -> None:
        self._subtract(size)
        self._budget.admit()

    def _subtract(self, size: int) -> None:
        self._reserved -= size
        self._budget.used -= size


def busy() -> RequestError:
    return RequestError(
        "the server holds as much for its clients as it may (--max-held-mb); ask again later", reason=Reason.BUSY
    )
