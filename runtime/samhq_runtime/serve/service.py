"""What both protocols talk to: one model, its limits, and its queue."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..bundle import Bundle, load_bundle
from ..contract import IMAGE_ENCODER, ModelSizes
from ..errors import BundleError
from ..predictor import Predictor
from .decoding import Decoders
from .embedding_cache import EmbeddingCache
from .errors import Reason, RequestError, reason_of, stopping
from .held import Budget, Holding
from .images import FittedImage, ImageSource, fitted
from .metrics import Metrics
from .off_loop import off_loop
from .options import MEGA, ServeOptions
from .requests import read_infer, require_room
from .scheduler import BatchLimit, Job, Scheduler
from .signature import (
    InferRequest,
    PromptSet,
    answer,
    answer_bytes,
    concatenate,
    model_inputs,
    model_outputs,
    timeout_of,
)
from .tensors import Tensor
from .time_limit import time_limit
from .tokens import Tokens
from .worker import Worker

MODEL_VERSION = "1"
_FITTED_KEPT = 16
_BATCH_PIXELS = 16 * MEGA  # logits of the original size that one decoder call may make: 64 MB, some tenths of a second


class Service:
    """A loaded bundle that answers requests until it is drained."""

    def __init__(self, bundle: Bundle | str, options: ServeOptions) -> None:
        """Load the bundle once per worker and start the workers; errors are those of `Predictor`."""
        self.options = options
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle, private=options.private)
        self.metrics = Metrics()
        self.tokens = Tokens(options.token_file)
        self._in_flight = 0
        self.draining = False
        self._ended = False
        self.held = Budget(options.max_held_mb * MEGA)
        self._fitting: OrderedDict[bytes, asyncio.Task[FittedImage]] = OrderedDict()
        cache = EmbeddingCache(max_bytes=options.cache_mb * MEGA, entry_bytes=_encoded_bytes(self.bundle))
        self.scheduler = Scheduler(cache, BatchLimit(options.max_batch, _BATCH_PIXELS))
        self._workers = [
            Worker(_predictor(self.bundle, options), self.scheduler, self.metrics) for _ in range(options.workers)
        ]
        self._decoders = Decoders(self.sizes.frame, options)  # and threads, once nothing can fail any more
        for worker in self._workers:
            worker.start()
        self.metrics.watch("cached_images", "Encoded images kept", lambda: len(cache))
        self.metrics.watch("cached_bytes", "What they take", lambda: len(cache) * cache.entry_bytes)
        self.metrics.watch("held_bytes", "What is held for clients: bodies, masks, answers", lambda: self.held.used)
        self.metrics.watch(
            "open_requests", "Requests in flight, their bodies arriving too", lambda: len(self.held.holdings)
        )
        self.metrics.watch("queued_requests", "Inference requests no worker has taken yet", lambda: len(self.scheduler))

    @property
    def sizes(self) -> ModelSizes:
        return self.bundle.manifest.sizes

    @property
    def live(self) -> bool:
        """Whether every worker runs; a server that lost one is to be started again."""
        return all(worker.is_alive() for worker in self._workers)

    @property
    def ready(self) -> bool:
        return not self.not_ready

    @property
    def not_ready(self) -> str:
        """Why no requests should be sent here; empty if they may be."""
        if self.draining or not self.live:
            return "stopping" if self.draining else "a worker ended"
        try:
            self.bundle.require_unchanged()
        except BundleError as e:
            return str(e)
        return ""

    def metadata(self) -> dict[str, object]:
        """Of the model, in the protocol's words."""
        tensors = {"inputs": model_inputs(self.sizes), "outputs": model_outputs(self.sizes)}
        return {
            "name": self.options.model_name,
            "versions": [MODEL_VERSION],
            "platform": "samhq_bundle",
            **{
                kind: [{"name": i.name, "datatype": i.datatype, "shape": list(i.shape)} for i in infos]
                for kind, infos in tensors.items()
            },
        }

    def require_model(self, name: str, version: str = "") -> None:
        """RequestError unless it is the model that is served."""
        if name != self.options.model_name or version not in ("", MODEL_VERSION):
            raise RequestError(
                f"unknown model {name!r} version {version!r}; this server has {self.options.model_name!r} "
                f"version {MODEL_VERSION!r}",
                reason=Reason.NOT_FOUND,
            )

    @contextmanager
    def counted(self, protocol: str) -> Iterator[Holding]:
        """Around all that is done for one inference request, from before its body is there: counts how it ended."""
        outcome = "ok"
        try:
            with Holding(self.held) as holding:
                if self._ended:
                    raise stopping()
                yield holding
        except BaseException as e:
            outcome = "cancelled" if isinstance(e, asyncio.CancelledError) else reason_of(e).value
            raise
        finally:
            self.metrics.requests.labels(protocol, outcome).inc()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Around what is done for one once its body is there: refuses it if there are too many."""
        self._in_flight += 1
        self.metrics.in_flight.set(self._in_flight)
        try:
            if self._in_flight > self.options.max_concurrency:
                raise RequestError(
                    f"{self.options.max_concurrency} requests are in flight already; ask again later",
                    reason=Reason.BUSY,
                )
            yield
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)

    async def infer(self, request: InferRequest, holding: Holding) -> list[Tensor]:
        """Answer one request; what the answer takes is counted in `holding`.

        Raises:
            SamHqError: the request is malformed, too big, or was not answered in time.
        """
        start, timeout_s = time.monotonic(), min(self.options.timeout_s, timeout_of(request.parameters))
        with time_limit(timeout_s, f"not answered within {timeout_s:g} s"):
            prompts, source = await off_loop(request.nbytes, lambda: read_infer(request, self.sizes, self.options))
            whole = await self._job(prompts, source, start + timeout_s)
            holding.take(require_room(request, prompts, whole.original_hw, self.sizes, self.options))
            jobs = whole.split()
            for job in jobs:
                self.scheduler.submit(job)
            parts = await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs))
        size = sum(answer_bytes(part, request.outputs) for part in parts)
        tensors = await off_loop(size, lambda: answer(concatenate(parts), request.outputs))
        self.metrics.answered(time.monotonic() - start)
        return tensors

    def start_draining(self) -> None:
        """Say that no more requests are wanted; those in flight go on."""
        self.draining = True

    def refuse_all(self) -> int:
        """End what is in flight, and what may still come, with a refusal; how many those are that are in flight."""
        self._ended = True
        return sum(holding.refuse(stopping()) for holding in list(self.held.holdings))

    def close(self) -> None:
        """Compute what is queued, then end the workers: what was refused is not in the queue any more."""
        self.start_draining()
        self.scheduler.close()
        for worker in self._workers:
            worker.join()
        self._decoders.close()

    async def _job(self, prompts: PromptSet, source: ImageSource, deadline: float) -> Job:
        encoded = self.scheduler.encoded(source.key)
        image = None if encoded else await self._fit(source, deadline)
        return Job(source.key, image, encoded, prompts, deadline)

    async def _fit(self, source: ImageSource, deadline: float) -> FittedImage:
        """The image, resized for the model: once for all requests that ask for it at a time."""
        task = self._fitting.get(source.key)
        if task is None:
            task = self._fitting[source.key] = asyncio.create_task(self._fit_now(source, deadline))
            task.add_done_callback(lambda done: self._forget(source.key, done))
        return await asyncio.shield(task)

    async def _fit_now(self, source: ImageSource, deadline: float) -> FittedImage:
        if isinstance(source.content, bytes):
            return await self._decoders.fit(source.content, deadline)
        size = source.content.nbytes
        return await off_loop(size, lambda: fitted(source.content, self.sizes.frame, self.options))

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
