"""One bundle that is served: its sessions, its queue, and the images that are kept of it. Replaced as a whole."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..bundle import Bundle
from ..contract import IMAGE_ENCODER, ModelSizes
from ..predictor import Predictor
from .access_log import current_trace
from .decoding import Decoders
from .embedding_cache import EmbeddingCache
from .held import Holding
from .images import FittedImage, ImageSource, fitted
from .metrics import Metrics
from .off_loop import off_loop
from .options import MEGA, ServeOptions
from .requests import read_infer, require_room
from .scheduler import BatchLimit, Job, Scheduler
from .signature import InferRequest, PromptSet, answer, answer_bytes, concatenate
from .tensors import Tensor
from .traces import stage
from .worker import Worker

_FITTED_KEPT = 16
_BATCH_PIXELS = 16 * MEGA  # logits of the original size that one decoder call may make: 64 MB, some tenths of a second


class Loaded:
    """Answers requests until it is closed; `loaded_at` is a time of `time.time`."""

    def __init__(self, bundle: Bundle, options: ServeOptions, metrics: Metrics) -> None:
        """Open the bundle once per worker and start the workers; errors are those of `Predictor`."""
        self.bundle, self._options, self._metrics = bundle, options, metrics
        self.cache = EmbeddingCache(max_bytes=options.cache_mb * MEGA, entry_bytes=_encoded_bytes(bundle))
        self.scheduler = Scheduler(self.cache, BatchLimit(options.max_batch, _BATCH_PIXELS))
        self._fitting: OrderedDict[bytes, asyncio.Task[FittedImage]] = OrderedDict()
        self._users = 0
        self._unused = asyncio.Event()
        self._decoders = Decoders(self.sizes.frame, options)  # its first process starts beside what follows
        try:
            self.workers = [
                Worker(_predictor(bundle, options), self.scheduler, metrics) for _ in range(options.workers)
            ]
        except BaseException:
            self._decoders.close()
            raise
        for worker in self.workers:
            worker.start()
        self.loaded_at = time.time()

    @property
    def sizes(self) -> ModelSizes:
        return self.bundle.manifest.sizes

    @contextmanager
    def used(self) -> Iterator[None]:
        """Around what is done for one request: `retire` waits for it."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def infer(self, request: InferRequest, holding: Holding, deadline: float) -> list[Tensor]:
        """Answer one request; `deadline` is a time of `time.monotonic`, errors are those of `Service.infer`."""
        prompts, source = await off_loop(request.nbytes, lambda: read_infer(request, self.sizes, self._options))
        whole = await self._job(prompts, source, deadline)
        holding.take(require_room(request, prompts, whole.original_hw, self.sizes, self._options))
        jobs = whole.split()
        for job in jobs:
            self.scheduler.submit(job)
        parts = await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        size = sum(answer_bytes(part, request.outputs) for part in parts)
        return await off_loop(size, lambda: answer(concatenate(parts), request.outputs))

    async def retire(self) -> None:
        """Close it once the last request that began with it is answered."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Compute what is queued, then end the workers: what was refused is not in the queue any more."""
        self.scheduler.close()
        for worker in self.workers:
            worker.join()
        self._decoders.close()

    async def _job(self, prompts: PromptSet, source: ImageSource, deadline: float) -> Job:
        encoded = self.scheduler.encoded(source.key)
        image = None if encoded else await self._fit(source, deadline)
        return Job(source.key, image, encoded, prompts, deadline, trace=current_trace())

    async def _fit(self, source: ImageSource, deadline: float) -> FittedImage:
        """The image, resized for the model: once for all requests that ask for it at a time."""
        task = self._fitting.get(source.key)
        if task is None:
            task = self._fitting[source.key] = asyncio.create_task(self._fit_now(source, deadline))
            task.add_done_callback(lambda done: self._forget(source.key, done))
        with stage("decode", [current_trace()]):
            return await asyncio.shield(task)

    async def _fit_now(self, source: ImageSource, deadline: float) -> FittedImage:
        if isinstance(source.content, bytes):
            return await self._decoders.fit(source.content, deadline)
        size = source.content.nbytes
        return await off_loop(size, lambda: fitted(source.content, self.sizes.frame, self._options))

    def _forget(self, key: bytes, task: asyncio.Task[FittedImage]) -> None:
        """The last few stay until they are encoded; errors do not."""
        if task.cancelled() or task.exception() is not None:
            self._fitting.pop(key, None)
        while len(self._fitting) > _FITTED_KEPT and next(iter(self._fitting.values())).done():
            self._fitting.popitem(last=False)


def _predictor(bundle: Bundle, options: ServeOptions) -> Predictor:
    return Predictor(
        bundle,
        providers=options.providers,
        provider_options=options.provider_options,
        threads=options.threads,
        hq_token=options.hq_token,
        prompts_per_call=options.max_batch,
    )


def _encoded_bytes(bundle: Bundle) -> int:
    """What the encoder's outputs for one image take."""
    outputs = bundle.manifest.graphs[IMAGE_ENCODER].spec.outputs
    return sum(
        int(np.prod([1 if isinstance(d, str) else d for d in o.shape])) * np.dtype(o.dtype).itemsize for o in outputs
    )
