"""Which requests are computed together, which wait, and what is kept."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from samhq_runtime import EncodedImage
from samhq_runtime.serve.embedding_cache import EmbeddingCache
from samhq_runtime.serve.errors import Reason, RequestError
from samhq_runtime.serve.images import FittedImage
from samhq_runtime.serve.scheduler import Batch, BatchLimit, Job, Scheduler
from samhq_runtime.serve.signature import PromptSet

ENCODED = EncodedImage({}, (1, 1))
OPTIONS = {"multimask_output": True, "hq_token_only": False}


def scheduler(*, max_bytes: int = 10, max_batch: int = 4, max_batch_pixels: int = 1000) -> Scheduler:
    cache = EmbeddingCache(max_bytes=max_bytes, entry_bytes=1)
    return Scheduler(cache, BatchLimit(max_batch, max_batch_pixels))


def job(key: str, *, boxes: int = 1, points: int = 0, pixels: int = 1, left: float = 60, **options: bool) -> Job:
    arrays = {"box": np.zeros((boxes, 4))}
    if points:
        arrays["point_coords"] = np.zeros((boxes, points, 2))
    image = FittedImage(np.zeros((1, 1, 3), np.uint8), (1, pixels))
    return Job(key.encode(), image, None, PromptSet(arrays, {**OPTIONS, **options}), time.monotonic() + left)


def take(queue: Scheduler) -> Batch:
    batch = queue.take()
    assert batch is not None
    return batch


@pytest.mark.parametrize(
    ("asked", "together"),
    [
        (["a", "b", "a", "a"], [0, 2, 3]),  # the same image, wherever in the queue
        (["a", ("a", {"points": 1}), "a"], [0, 2]),  # not with another number of points: SAM attends to padding
        (["a", ("a", {"hq_token_only": True})], [0]),
        (["a", ("a", {"multimask_output": False})], [0]),
        ([("a", {"boxes": 3}), "a", "a"], [0, 1]),  # four prompts at most
        ([("a", {"boxes": 9})], [0]),  # more than fit, so alone: the worker cuts it up
        ([("a", {"pixels": 400})] * 3, [0, 1]),  # a thousand pixels of masks
    ],
)
def test_what_shares_a_call(asked: list[str | tuple[str, dict[str, Any]]], together: list[int]) -> None:
    queue = scheduler()
    jobs = [job(one) if isinstance(one, str) else job(one[0], **one[1]) for one in asked]
    for one in jobs:
        queue.submit(one)
    assert take(queue).jobs == [jobs[i] for i in together]
    assert len(queue) == len(jobs) - len(together)


def test_large_requests_and_others_take_turns() -> None:
    """Half of the time each: a large request is done, and small ones wait for a piece of it at most."""
    queue = scheduler()
    large = job("large", boxes=12, pixels=8_000_000)
    pieces = large.split()
    assert [len(piece.prompts) for piece in pieces] == [2] * 6
    for one in pieces:
        queue.submit(one)
    assert take(queue).jobs == [pieces[0]]  # nobody else waits
    queue.finish_encoding(Batch(pieces[:1], None), ENCODED)
    small = [job(f"small{i}", boxes=4, pixels=1_000_000) for i in range(6)]
    for one in small:
        queue.submit(one)
    order = [take(queue).jobs[0] for _ in range(11)]
    kinds = "".join("L" if one.large else "s" for one in order)
    assert kinds == "sssLsssLLLL"
    assert [one for one in order if one.large] == pieces[1:]


def test_an_image_is_encoded_by_one_worker_while_others_wait_or_do_something_else() -> None:
    queue = scheduler()
    first, second, other = job("a"), job("a", points=1), job("b")
    for one in (first, second, other):
        queue.submit(one)
    encoding = take(queue)
    assert (encoding.jobs, encoding.encoded) == ([first], None)
    assert take(queue).jobs == [other]
    waiting: list[Batch] = []
    thread = threading.Thread(target=lambda: waiting.append(take(queue)))
    thread.start()
    time.sleep(0.05)
    assert not waiting
    queue.finish_encoding(encoding, ENCODED)
    thread.join(5)
    assert [batch.jobs for batch in waiting] == [[second]]
    assert waiting[0].encoded is ENCODED


def test_an_image_that_could_not_be_encoded_is_tried_again() -> None:
    queue = scheduler()
    queue.submit(job("a"))
    queue.finish_encoding(take(queue), None)
    queue.submit(job("a"))
    assert take(queue).encoded is None


@pytest.mark.parametrize(("max_bytes", "kept"), [(0, []), (1, ["c"]), (2, ["a", "c"]), (3, ["a", "b", "c"])])
def test_cache_drops_the_least_recently_used(max_bytes: int, kept: list[str]) -> None:
    cache = EmbeddingCache(max_bytes=max_bytes, entry_bytes=1)
    for key in ("a", "b"):
        cache.put(key.encode(), ENCODED)
    cache.get(b"a")
    cache.put(b"c", ENCODED)
    assert [key for key in ("a", "b", "c") if key.encode() in cache] == kept


def test_late_and_cancelled_jobs_are_not_computed() -> None:
    queue = scheduler()
    late, cancelled, good = job("a", left=-1), job("a"), job("a")
    cancelled.future.cancel()
    for one in (late, cancelled, good):
        queue.submit(one)
    assert take(queue).jobs == [good]
    error = late.future.exception(timeout=0)
    assert isinstance(error, RequestError)
    assert error.reason is Reason.TIMEOUT


def test_close_serves_what_is_queued_and_takes_no_more() -> None:
    queue = scheduler()
    queue.submit(job("a"))
    queue.close()
    with pytest.raises(RequestError, match="stopping"):
        queue.submit(job("b"))
    queue.finish_encoding(take(queue), ENCODED)
    assert queue.take() is None
