"""Which requests are computed next, and which of them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from ..embeddings import EncodedImage
from .embedding_cache import EmbeddingCache
from .errors import Reason, RequestError, stopping
from .images import FittedImage
from .signature import PromptSet, Segmentation
from .traces import Trace

_MOST_PROMPTS, _MOST_PIXELS = 64, 16_000_000  # of a job that is done in one go
_PROMPT_S, _PIXEL_S = 0.02, 3e-8  # what a prompt, and a pixel of its mask, take
_LARGE_S = 0.5  # what a request takes that others should not wait for


@dataclass(eq=False)
class Job:
    """Prompts for one image, waiting for a worker. `deadline` is a time of `time.monotonic`.

    `image` is to be encoded, or `None` for one that was in the cache, as `encoded`, when the job was made.
    """

    key: bytes
    image: FittedImage | None
    encoded: EncodedImage | None
    prompts: PromptSet
    deadline: float
    future: Future[Segmentation] = field(default_factory=Future)
    large: bool = False
    trace: Trace | None = None

    @property
    def cost_s(self) -> float:
        """A guess: what matters is the proportion between jobs."""
        return len(self.prompts) * (_PROMPT_S + _PIXEL_S * self.pixels)

    def split(self) -> list[Job]:
        """The same prompts as jobs so small that others need not wait for all of them."""
        rows = max(1, min(_MOST_PROMPTS, _MOST_PIXELS // self.pixels))
        pieces = [self.prompts[start : start + rows] for start in range(0, len(self.prompts), rows)]
        return [replace(self, prompts=piece, future=Future(), large=self.cost_s > _LARGE_S) for piece in pieces]

    @property
    def original_hw(self) -> tuple[int, int]:
        image = self.image or self.encoded
        assert image is not None
        return image.original_hw

    @property
    def pixels(self) -> int:
        """Of the image."""
        return self.original_hw[0] * self.original_hw[1]


@dataclass(frozen=True)
class Batch:
    """Jobs for one image and one decoder call; `encoded` is None if the image must be encoded first."""

    jobs: list[Job]
    encoded: EncodedImage | None

    @property
    def key(self) -> bytes:
        return self.jobs[0].key

    @property
    def image(self) -> FittedImage:
        """What to encode."""
        return next(job.image for job in self.jobs if job.image is not None)


@dataclass(frozen=True)
class BatchLimit:
    """The most that one decoder call takes: prompts, and pixels of logits of the original size."""

    prompts: int
    pixels: int

    def prompts_of(self, image_pixels: int) -> int:
        """How many prompts for an image of that many pixels; one always fits."""
        return max(1, min(self.prompts, self.pixels // image_pixels))


class Scheduler:
    """Two queues in order of arrival: while jobs of large requests and of others wait, each kind gets half of the time.

    A batch is the first job that can start and all later ones that fit in with it.

    Nobody waits for a batch to fill: jobs that can share a call gather while the workers are busy. An image is encoded
    by one worker at a time; jobs for it wait while others are served. Thread-safe.
    """

    def __init__(self, cache: EmbeddingCache, limit: BatchLimit) -> None:
        self.limit = limit
        self._cache = cache
        self._jobs: list[Job] = []
        self._encoding: set[bytes] = set()
        self._spent_s = {False: 0.0, True: 0.0}  # on small jobs and on large ones, since both wait
        self._closed = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._jobs)

    def submit(self, job: Job) -> None:
        with self._changed:
            if self._closed:
                raise stopping()
            self._jobs.append(job)
            self._changed.notify()

    def take(self) -> Batch | None:
        """Wait for a batch; None once `close` was called and nothing is left."""
        with self._changed:
            while True:
                self._drop(lambda job: job.deadline < time.monotonic() or job.future.cancelled())
                first = self._first()
                if first is not None:
                    break
                if self._closed and not self._jobs:
                    return None
                self._changed.wait()
            batch = Batch(self._together(first), self._cache.get(first.key) or first.encoded)
            self._jobs = [job for job in self._jobs if job not in batch.jobs]
            self._spent_s[first.large] += sum(job.cost_s for job in batch.jobs)
            if batch.encoded is None:
                self._encoding.add(first.key)
            return batch

    def finish_encoding(self, batch: Batch, encoded: EncodedImage | None) -> None:
        """Let other jobs for the image start; None if it could not be encoded."""
        with self._changed:
            self._encoding.discard(batch.key)
            if encoded is not None:
                self._cache.put(batch.key, encoded)
            self._changed.notify_all()

    def encoded(self, key: bytes) -> EncodedImage | None:
        """An image that is in the cache."""
        with self._changed:
            return self._cache.get(key)

    def close(self) -> None:
        """Take no more jobs; those that wait are still served."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _first(self) -> Job | None:
        """Whose turn it is, of those that can start."""
        heads: dict[bool, Job] = {}
        for job in self._jobs:
            if job.key not in self._encoding:
                heads.setdefault(job.large, job)
        if len(heads) < 2:
            self._spent_s = dict.fromkeys(self._spent_s, 0.0)
            return next(iter(heads.values()), None)
        return heads[self._spent_s[True] < self._spent_s[False]]

    def _together(self, first: Job) -> list[Job]:
        jobs: list[Job] = []
        room = self.limit.prompts_of(first.pixels)
        for job in [first, *(job for job in self._jobs if job is not first)]:
            if job.key == first.key and job.prompts.kind == first.prompts.kind:
                room -= len(job.prompts)
                if jobs and room < 0:
                    break
                jobs.append(job)
        return jobs

    def _drop(self, dead: Callable[[Job], bool]) -> None:
        dropped = [job for job in self._jobs if dead(job)]
        self._jobs = [job for job in self._jobs if job not in dropped]
        for job in dropped:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(RequestError("not started before its timeout", reason=Reason.TIMEOUT))
