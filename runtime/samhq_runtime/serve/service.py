"""What both protocols talk to: one model, its limits, and its queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..bundle import Bundle, load_bundle
from ..contract import ModelSizes
from ..errors import BundleError
from .errors import Reason, RequestError, reason_of, stopping
from .held import Budget, Holding
from .loaded import Loaded
from .metrics import Metrics
from .options import MEGA, ServeOptions
from .signature import InferRequest, model_inputs, model_outputs, timeout_of
from .tensors import Tensor
from .time_limit import time_limit
from .tokens import Tokens
from .traces import Tracer

MODEL_VERSION = "1"


class Service:
    """A bundle that answers requests until it is drained; `reload` exchanges it."""

    def __init__(self, bundle: Bundle | str, options: ServeOptions) -> None:
        """Load the bundle once per worker and start the workers; errors are those of `Predictor`."""
        self.options = options
        self._path = bundle.path if isinstance(bundle, Bundle) else Path(bundle)
        self.metrics = Metrics()
        self.tracer = _tracer() if options.traces else None  # before workers start: its packages may be missing
        self.tokens = Tokens(options.token_file)
        self._in_flight = 0
        self.draining = False
        self._ended = False
        self.held = Budget(options.max_held_mb * MEGA)
        self._loaded = Loaded(bundle if isinstance(bundle, Bundle) else self._read(), options, self.metrics)
        self._watch()

    def _watch(self) -> None:
        watch = self.metrics.watch
        watch("cached_images", "Encoded images kept", lambda: len(self._loaded.cache))
        watch("cached_bytes", "What they take", lambda: len(self._loaded.cache) * self._loaded.cache.entry_bytes)
        watch("held_bytes", "What is held for clients: bodies, masks, answers", lambda: self.held.used)
        watch("open_requests", "Requests in flight, their bodies arriving too", lambda: len(self.held.holdings))
        watch("queued_requests", "Inference requests no worker has taken yet", lambda: len(self._loaded.scheduler))
        watch("bundle_loaded_timestamp_seconds", "When the bundle was loaded", lambda: self._loaded.loaded_at)

    @property
    def bundle(self) -> Bundle:
        """The one that answers the next request."""
        return self._loaded.bundle

    @property
    def sizes(self) -> ModelSizes:
        return self.bundle.manifest.sizes

    @property
    def live(self) -> bool:
        """Whether every worker runs; a server that lost one is to be started again."""
        return all(worker.is_alive() for worker in self._loaded.workers)

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
        loaded = self._loaded  # until it is answered, whatever is loaded meanwhile
        with loaded.used(), time_limit(timeout_s, f"not answered within {timeout_s:g} s"):
            tensors = await loaded.infer(request, holding, start + timeout_s)
        self.metrics.answered(time.monotonic() - start)
        return tensors

    async def reload(self) -> None:
        """Load the bundle that the path leads to now, beside the one that serves, and answer with it from then on.

        Raises:
            SamHqError: it does not load; the old one goes on serving.
        """
        outcome = "failed"
        try:
            bundle = await asyncio.to_thread(self._read)
            outcome = "unchanged"
            if (bundle.path, bundle.stamps) != (self.bundle.path, self.bundle.stamps):
                outcome = "failed"
                old, self._loaded = self._loaded, await self._load_beside(bundle)
                outcome = "ok"
                await old.retire()
        finally:
            self.metrics.reloads.labels(outcome).inc()

    def start_draining(self) -> None:
        """Say that no more requests are wanted; those in flight go on."""
        self.draining = True

    def refuse_all(self) -> int:
        """End what is in flight, and what may still come, with a refusal; how many those are that are in flight."""
        self._ended = True
        return sum(holding.refuse(stopping()) for holding in list(self.held.holdings))

    def close(self) -> None:
        """Compute what is queued, then end the workers."""
        self.start_draining()
        self._loaded.close()
        if self.tracer is not None:
            self.tracer.close()

    def _read(self) -> Bundle:
        """The bundle, of the folder itself where the path is a link: that may lead to another one later."""
        folder = self._path.resolve() if self._path.is_dir() else self._path
        return load_bundle(folder, private=self.options.private, verify_key=self.options.verify_key)

    async def _load_beside(self, bundle: Bundle) -> Loaded:
        return await asyncio.to_thread(Loaded, bundle, self.options, self.metrics)


def _tracer() -> Tracer:
    from .otel import OpenTelemetry

    return OpenTelemetry()
