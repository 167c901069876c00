"""The threads that compute: each has a Predictor and serves one batch at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from ..embeddings import EncodedImage
from ..predictor import Predictor
from .metrics import Metrics
from .scheduler import Batch, Job, Scheduler
from .signature import PromptSet, Segmentation, concatenate, join
from .traces import stage


class Worker(threading.Thread):
    """Serves batches until the scheduler closes; an error fails the requests of its batch and nothing else."""

    def __init__(self, predictor: Predictor, scheduler: Scheduler, metrics: Metrics) -> None:
        super().__init__(name="samhq-worker", daemon=True)
        self._predictor = predictor
        self._scheduler = scheduler
        self._metrics = metrics

    def run(self) -> None:
        while (batch := self._scheduler.take()) is not None:
            jobs = [job for job in batch.jobs if job.future.set_running_or_notify_cancel()]
            try:
                encoded = batch.encoded or self._encode(batch)
            except Exception as error:
                _fail(jobs, error)
            else:
                self._serve(encoded, jobs)
        self._predictor.close()

    def _serve(self, encoded: EncodedImage, jobs: list[Job]) -> None:
        """Answer the jobs together; if that fails, each alone: a bad one fails none of its neighbours."""
        try:
            self._answer(encoded, jobs)
        except Exception as error:
            if len(jobs) == 1:
                _fail(jobs, error)
            else:
                for job in jobs:
                    self._serve(encoded, [job])

    def _answer(self, encoded: EncodedImage, jobs: list[Job]) -> None:
        if not jobs:  # all cancelled meanwhile; the image is in the cache for whoever asks again
            return
        start, count = time.perf_counter(), sum(len(job.prompts) for job in jobs)
        with stage("predict", [job.trace for job in jobs], prompts=count, requests=len(jobs)):
            result = self._predict(encoded, join([job.prompts for job in jobs]))
        self._metrics.decoded(count, time.perf_counter() - start)
        for job, part in zip(jobs, _split(result, [job.prompts for job in jobs]), strict=True):
            job.future.set_result(part)

    def _encode(self, batch: Batch) -> EncodedImage:
        encoded = None
        start = time.perf_counter()
        try:
            with stage("encode", [job.trace for job in batch.jobs]):
                encoded = self._predictor.encode_fitted(batch.image.pixels, batch.image.original_hw)
        finally:
            self._scheduler.finish_encoding(batch, encoded)
        self._metrics.encoded(time.perf_counter() - start)
        return encoded

    def _predict(self, encoded: EncodedImage, prompts: PromptSet) -> Segmentation:
        """All prompts, in as many calls as keep the logits of the original size within bounds."""
        rows = self._scheduler.limit.prompts_of(encoded.original_hw[0] * encoded.original_hw[1])
        starts = range(0, len(prompts), rows)
        return concatenate([self._call(encoded, prompts[start : start + rows]) for start in starts])

    def _call(self, encoded: EncodedImage, prompts: PromptSet) -> Segmentation:
        arguments: dict[str, Any] = dict(prompts.arrays)
        return Segmentation(*self._predictor.predict_batch(**arguments, **prompts.options, image=encoded))


def _fail(jobs: list[Job], error: Exception) -> None:
    for job in jobs:
        job.future.set_exception(error)


def _split(result: Segmentation, prompts: list[PromptSet]) -> Iterator[Segmentation]:
    start = 0
    for part in prompts:
        rows = slice(start, start + len(part))
        yield Segmentation(result.masks[rows], result.iou_predictions[rows], result.low_res_logits[rows])
        start = rows.stop
