"""Prometheus metrics of one server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


@dataclass(frozen=True)
class Counts:
    """Since the server started; `last_ms` is when the last answer was made, in milliseconds since 1970, 0 for never."""

    answered: int
    answered_s: float
    failed: int
    prompts: int
    batches: int
    computed_s: float
    last_ms: int


_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PROMPTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts since the server started; a registry of its own, so that several servers fit into one process."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "samhq_requests", "Inference requests by protocol and outcome", ("protocol", "outcome"), registry=registry
        )
        self.request_seconds = Histogram(
            "samhq_request_seconds", "From a parsed request to its answer", buckets=_SECONDS, registry=registry
        )
        self.reloads = Counter("samhq_reloads", "Bundles read again at SIGHUP", ("outcome",), registry=registry)
        self.in_flight = Gauge("samhq_requests_in_flight", "Inference requests being served", registry=registry)
        self.images = Counter("samhq_images_encoded", "Images encoded", registry=registry)
        self._encode_seconds = Histogram(
            "samhq_encode_seconds", "Reading and encoding one image", buckets=_SECONDS, registry=registry
        )
        self._decode_seconds = Histogram(
            "samhq_decode_seconds", "Masks of one batch of prompts", buckets=_SECONDS, registry=registry
        )
        self.batch_prompts = Histogram(
            "samhq_batch_prompts", "Prompts decoded together", buckets=_PROMPTS, registry=registry
        )

        self._last_ms = 0

    def answered(self, seconds: float) -> None:
        self.request_seconds.observe(seconds)
        self._last_ms = round(time.time() * 1000)

    def counts(self) -> Counts:
        outcomes = {"ok": 0.0, "failed": 0.0}
        for sample in (sample for family in self.requests.collect() for sample in family.samples):
            if sample.name.endswith("_total"):
                outcomes["ok" if sample.labels["outcome"] == "ok" else "failed"] += sample.value
        return Counts(
            answered=int(outcomes["ok"]),
            answered_s=self._value("request_seconds_sum"),
            failed=int(outcomes["failed"]),
            prompts=int(self._value("batch_prompts_sum")),
            batches=int(self._value("batch_prompts_count")),
            computed_s=self._value("encode_seconds_sum") + self._value("decode_seconds_sum"),
            last_ms=self._last_ms,
        )

    def _value(self, name: str) -> float:
        return self._registry.get_sample_value(f"samhq_{name}") or 0.0

    def encoded(self, seconds: float) -> None:
        self.images.inc()
        self._encode_seconds.observe(seconds)

    def decoded(self, prompts: int, seconds: float) -> None:
        self.batch_prompts.observe(prompts)
        self._decode_seconds.observe(seconds)

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read when somebody asks for it."""
        Gauge(f"samhq_{name}", help_text, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """All of them, in the text format Prometheus scrapes."""
        return generate_latest(self._registry)
